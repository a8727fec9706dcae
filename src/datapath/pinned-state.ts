// SPDX-License-Identifier: Apache-2.0
// What the pinned maps of an interface hold, read without locking, adopting or writing anything: for `plan`. A ring
// counts only where its row says that it was written completely. A daemon may write meanwhile; the reader sees each
// backend, row and vip as it was at some moment, as packets do.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { XdpilotError } from '../errors.ts';
import type { Address } from '../model/address.ts';
import type { Encap } from '../model/pool.ts';
import { vipKey } from '../model/vip.ts';
import type { BpfMap } from '../native/addon.d.ts';
import type { NativeAddon } from '../native/binding.ts';
import { LAYOUT_HASH, type MapName } from './abi.gen.ts';
import { type BackendEntry, BackendTable } from './backend-table.ts';
import type { ActualBackend, ActualPool, ActualState } from './datapath.ts';
import { kernelCall } from './kernel-error.ts';
import { MetaRow } from './meta.ts';
import { instancePath } from './pins.ts';
import { type PoolEntry, PoolTable } from './pool-table.ts';
import { VipPrefixes } from './vip-prefixes.ts';
import { VipTable, vipOf } from './vip-table.ts';

const NO_GATEWAY = new Uint8Array(6);

export interface PinnedState extends ActualState {
	readonly serverIds: { readonly ids: ReadonlyMap<number, Address>; readonly encap: Encap };
}

/** undefined = nothing complete is pinned there. @throws XdpilotError E_ABI_MISMATCH for maps of another version */
export function readPinnedState(native: NativeAddon, pinPath: string, ifindex: number): PinnedState | undefined {
	const folder = instancePath(pinPath, ifindex);
	if (!existsSync(join(folder, 'meta'))) return undefined;
	const meta = withMap(native, folder, 'meta', (map) => new MetaRow(map.mmap({ readOnly: true })).read());
	if (meta === undefined) return undefined;
	const layout = Buffer.from(meta.layoutHash).toString('hex');
	if (layout === LAYOUT_HASH) return stateOf(native, folder);
	const found = `the maps pinned in ${folder} have layout ${layout.slice(0, 12)}, this version has ${LAYOUT_HASH.slice(0, 12)}`;
	throw new XdpilotError('E_ABI_MISMATCH', found, {
		unaffected: 'what is pinned goes on forwarding, untouched',
		hint: 'use the version that made them, or take the old instance down: xdpilot detach',
	});
}

function stateOf(native: NativeAddon, folder: string): PinnedState {
	const memory = (name: MapName) => withMap(native, folder, name, (map) => map.mmap({ readOnly: true }));
	const entriesOf = (name: MapName) => withMap(native, folder, name, (map) => map.info().maxEntries);
	const backends = new BackendTable(memory('backends'), entriesOf('backends'), NO_GATEWAY, new Set()).read();
	const rows = new PoolTable(memory('pool_rows'), entriesOf('pool_rows')).read();
	const nameOf = new Map(rows.map((row) => [row.number, row.name]));
	// Two tables of 2^bits buckets lie one behind the other.
	const bits = Math.log2(entriesOf('vips4') / 2);
	const table = new VipTable({ control: memory('control'), vips4: memory('vips4'), vips6: memory('vips6') }, bits, () => 0n);
	const prefixes = withMap(native, folder, 'vip_prefixes', (map) => new VipPrefixes(map).read());
	const vips = [...table.read(), ...prefixes].map((row) => vipOf(row, nameOf.get(row.pool) ?? ''));
	return {
		pools: new Map(rows.map((row) => [row.name, poolOf(row, backends)])),
		vips: new Map(vips.map((vip) => [vipKey(vip), vip])),
		serverIds: withMap(native, folder, 'server_ids', (map) => serverIdsOf(map, backends)),
	};
}

function serverIdsOf(map: BpfMap, backends: readonly BackendEntry[]): PinnedState['serverIds'] {
	const byId = new Map(backends.map((entry) => [entry.id, entry]));
	const ids = new Map<number, Address>();
	let encap: Encap = 'ipip';
	for (let key = map.nextKey(); key !== undefined; key = map.nextKey(key)) {
		const value = map.lookup(key);
		const backend = value && byId.get(wordOf(value));
		if (backend === undefined) continue;
		ids.set(wordOf(key), backend.address);
		encap = backend.encap;
	}
	return { ids, encap };
}

function poolOf(row: PoolEntry, entries: readonly BackendEntry[]): ActualPool {
	const isFinal = row.phase === 'final';
	const backends = entries
		.filter((entry) => entry.pool === row.number)
		.flatMap((entry): [Address, ActualBackend][] => {
			const { address, state, encap, local, weight } = entry;
			return state === 'retired' ? [] : [[address, { address, state, encap, local, weight: isFinal ? weight : 0, slots: null }]];
		});
	const ring =
		isFinal && row.ring !== undefined
			? { hash: row.ring.hash, digest: digestOf(row.ring.digest), generation: row.generation, inputs: digestOf(row.ring.inputs) ?? '' }
			: null;
	return { name: row.name, ring, backends: new Map(backends) };
}

function digestOf(bytes: Uint8Array): string | null {
	return bytes.every((b) => b === 0) ? null : `sha256:${Buffer.from(bytes).toString('hex')}`;
}

function wordOf(bytes: Uint8Array): number {
	return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
}

function withMap<T>(native: NativeAddon, folder: string, name: MapName, read: (map: BpfMap) => T): T {
	const map = kernelCall(`open the pinned map ${name}`, () => native.BpfMap.open(join(folder, name)));
	try {
		return read(map);
	} finally {
		map.close();
	}
}
