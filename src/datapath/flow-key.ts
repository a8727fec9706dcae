// SPDX-License-Identifier: Apache-2.0
// What of a packet decides where its flow goes, after the vip's flags had their say: the input of the flow hash
// (which ring slot) and the key of the flow table (which entry). They differ for a vip that hashes its destination
// port only: its ring slot ignores the client, its flow table does not. The rules are those of bpf/flow.h.
import { type Address, addressBytes, familyOf } from '../model/address.ts';
import { isHost, type Vip, type VipFlag } from '../model/vip.ts';
import type { Flow } from './datapath.ts';

/** Ports are in host order, addresses in network-order bytes (4 or 16). */
export interface Endpoints {
	readonly source: Uint8Array;
	readonly sourcePort: number;
	readonly destPort: number;
}

export interface FlowKey {
	readonly family: 4 | 6;
	readonly dest: Uint8Array;
	/** Input of the flow hash. */
	readonly hash: Endpoints;
	/** Key of the flow table, together with `dest` and the vip. */
	readonly table: Endpoints;
}

/** The key of `flow` under `vip`. */
export function flowKey(vip: Vip, flow: Flow): FlowKey {
	const has = (flag: VipFlag) => vip.flags.includes(flag);
	const family = familyOf(flow.source);
	const destOnly = has('hash_dest_port_only');
	// A vip for every port treats all ports of one client port as one flow, unless a flag says otherwise.
	const anyPort = vip.port === 0 || !isHost(vip.prefix);
	const table: Endpoints = {
		source: addressBytes(flow.source),
		sourcePort: has('hash_no_source_port') ? 0 : flow.sourcePort,
		destPort: anyPort && !destOnly && !has('hash_source_dest_port') ? 0 : flow.destPort,
	};
	const hash = destOnly ? { source: new Uint8Array(table.source.length), sourcePort: flow.destPort, destPort: flow.destPort } : table;
	return { family, dest: addressBytes(flow.dest), hash, table };
}

/** The vip that takes `flow`: the exact port first, then the vip for every port. */
export function findVip(vips: Iterable<Vip>, flow: Pick<Flow, 'dest' | 'destPort' | 'protocol'>): Vip | undefined {
	let anyPort: Vip | undefined;
	for (const vip of vips) {
		if (vip.protocol !== flow.protocol || !isOn(vip, flow.dest)) continue;
		if (vip.port === flow.destPort) return vip;
		if (vip.port === 0) anyPort = vip;
	}
	return anyPort;
}

function isOn(vip: Vip, dest: Address): boolean {
	return isHost(vip.prefix) && vip.prefix.address === dest;
}
