// SPDX-License-Identifier: Apache-2.0
// What of a packet decides where its flow goes, after the vip's flags had their say: the input of the flow hash
// (which ring slot) and the key of the flow table (which entry). They differ for a vip that hashes its destination
// port only: its ring slot ignores the client, its flow table does not. The rules are those of bpf/flow.h.
import { addressBytes, familyOf, prefixContains } from '../model/address.ts';
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
	/** The vip is a prefix: it does not stand for `dest`, which the tag of the flow then holds. */
	readonly isPrefix: boolean;
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
	return { family, isPrefix: !isHost(vip.prefix), dest: addressBytes(flow.dest), hash, table };
}

/** The vip that takes `flow`: the exact port before port 0, and for each an address before a prefix, a long one before a short. */
export function findVip(vips: Iterable<Vip>, flow: Pick<Flow, 'dest' | 'destPort' | 'protocol'>): Vip | undefined {
	let best: Vip | undefined;
	for (const vip of vips) {
		if (vip.protocol !== flow.protocol || !prefixContains(vip.prefix, flow.dest)) continue;
		if (vip.port !== flow.destPort && vip.port !== 0) continue;
		if (best === undefined || rank(vip) > rank(best)) best = vip;
	}
	return best;
}

function rank(vip: Vip): number {
	return (vip.port === 0 ? 0 : 1000) + vip.prefix.length;
}
