// SPDX-License-Identifier: Apache-2.0
// Where a flow goes now, and why: the same steps as bpf/lb.bpf.c, over the same tables, changing none. Answers for a
// packet that begins nothing and ends nothing (no SYN, no RST), of ordinary size, without a connection id.

import { familyOf } from '../model/address.ts';
import { PROTOCOL_NUMBER, type Vip } from '../model/vip.ts';
import { flowSlot } from '../ring/flow-hash.ts';
import type { LbConfig, LbDrop } from './abi.gen.ts';
import type { BackendEntry, BackendTable } from './backend-table.ts';
import type { Flow, FlowVerdict } from './datapath.ts';
import { type FlowKey, flowKey } from './flow-key.ts';
import type { FlowTable, FoundFlow } from './flow-table.ts';
import type { Inventory, PoolRecord } from './inventory.ts';
import type { VipPrefixes } from './vip-prefixes.ts';
import { rowKey, type VipTable, vipOf } from './vip-table.ts';

export interface Tables {
	readonly config: LbConfig;
	readonly vips: VipTable;
	readonly prefixes: VipPrefixes;
	readonly backends: BackendTable;
	readonly flows: FlowTable;
	readonly inventory: Inventory;
}

type DropName = Lowercase<keyof typeof LbDrop extends `DROP_${infer Name}` ? Name : never>;

const NOTHING: FlowVerdict = {
	vip: null,
	pool: null,
	via: 'none',
	backend: null,
	entry: null,
	slot: null,
	ringBackend: null,
	generation: null,
	drop: null,
};

/** Reads the tables for one flow. */
export function explainFlow(tables: Tables, flow: Flow): FlowVerdict {
	const protocol = PROTOCOL_NUMBER[flow.protocol];
	const at = (port: number) => tables.vips.lookup(flow.dest, port, protocol) ?? tables.prefixes.lookup(flow.dest, port, protocol);
	const row = at(flow.destPort) ?? at(0);
	if (!row || familyOf(flow.source) !== familyOf(flow.dest)) return NOTHING;
	const pool = tables.inventory.byNumber(row.pool);
	const vip = vipOf(row, pool?.name ?? '');
	const key = flowKey(vip, flow);
	const entry = vip.flags.includes('no_flow_table') ? undefined : tables.flows.find(row.number, key);
	const known = entry && tables.backends.entry(entry.backend);
	const usable = entry !== undefined && isUsable(tables, flow, entry, known);
	const ring = fromRing(tables, pool, key);
	const chosen = usable ? known : ring.backend;
	return {
		vip: rowKey(row),
		pool: pool?.name ?? null,
		...fate(tables.config, chosen, vip, flow, ring.drop),
		via: chosen ? (usable ? 'flow-table' : 'ring') : 'none',
		entry: entry
			? { address: known?.address ?? null, ageSeconds: tables.flows.seconds(entry.age), established: entry.established, usable }
			: null,
		slot: ring.slot,
		ringBackend: ring.backend?.address ?? null,
		generation: pool && pool.ring !== null ? pool.generation : null,
	};
}

/** As choose_known(): not idle, and on a backend that keeps flows. */
function isUsable({ config }: Tables, flow: Flow, entry: FoundFlow, backend: BackendEntry | undefined): boolean {
	if (flow.protocol === 'udp' && entry.age > config.udpIdle) return false;
	return backend?.state === 'active' || backend?.state === 'draining';
}

/** As choose_new(). */
function fromRing(
	tables: Tables,
	pool: PoolRecord | undefined,
	key: FlowKey,
): { slot: number | null; backend?: BackendEntry; drop: DropName } {
	const { config } = tables;
	const ring = pool?.ring;
	if (!pool || ring === null || ring === undefined || ring === 'unknown' || ring.slots.length === 0)
		return { slot: null, drop: 'pool_empty' };
	const slot = flowSlot(key.hash, config.ringSize, { flow: config.hashSeed, address6: config.hashSeed6 });
	const member = ring.spec.members[ring.slots[slot] ?? 0];
	const backend = member && tables.backends.entry(pool.backends.get(member.address) ?? 0);
	return backend ? { slot, backend, drop: 'internal' } : { slot, drop: 'backend_free' };
}

/** As forward(): what becomes of a packet for this backend. */
function fate(
	config: LbConfig,
	backend: BackendEntry | undefined,
	vip: Vip,
	flow: Flow,
	otherwise: DropName,
): Pick<FlowVerdict, 'backend' | 'drop'> {
	if (!backend) return { backend: null, drop: otherwise };
	const state = backend.state === 'retired' ? 'down' : backend.state;
	const shown = { address: backend.address, state };
	if (familyOf(flow.source) === 6 && familyOf(backend.address) === 4) return { backend: shown, drop: 'backend_family' satisfies DropName };
	if (backend.local && vip.flags.includes('local')) return { backend: shown, drop: null };
	if (backend.self) return { backend: shown, drop: 'backend_self' satisfies DropName };
	const hasSource = familyOf(backend.address) === 4 ? config.gueSource4 !== 0 : config.gueSource6.some((byte) => byte !== 0);
	return { backend: shown, drop: backend.encap === 'gue' && !hasSource ? ('gue_source' satisfies DropName) : null };
}
