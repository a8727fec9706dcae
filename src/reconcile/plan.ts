// SPDX-License-Identifier: Apache-2.0
// The pure difference between what should be and what the maps hold. Make-before-break: backends, then rings, then
// vips; what is not wanted any more goes last, in the reverse order. Deterministic: equal inputs give equal plans.
// A pool whose source has not answered is not in `desired.pools` and is left exactly as it is.
import type { ActualBackend, ActualPool, ActualState, BackendPut, RingMember, RingSpec } from '../datapath/datapath.ts';
import { type Address, compareAddresses } from '../model/address.ts';
import { ringMembers } from '../model/backend.ts';
import type { Pool } from '../model/pool.ts';
import type { Vip } from '../model/vip.ts';
import type {
	BackendAdd,
	BackendRemove,
	BackendState,
	Change,
	PoolAdd,
	PoolRemove,
	RingSwapChange,
	ServerIdsChange,
	VipAdd,
	VipChange,
	VipRemove,
} from './change.ts';
import type { Desired } from './desired.ts';

/** What has to be done. `scope`: only these pools are compared; vips and pools that nobody names are always. */
export function planChanges(desired: Desired, actual: ActualState, scope?: ReadonlySet<string>): Change[] {
	const pools = [...desired.pools.values()].filter((p) => scope?.has(p.name) ?? true).sort(byName);
	const isPoolThere = (name: string) => actual.pools.has(name) || (desired.pools.has(name) && (scope?.has(name) ?? true));
	return [
		...pools.flatMap((p) => planPool(p, actual.pools.get(p.name))),
		...pools.flatMap((p) => planRing(p, actual.pools.get(p.name)) ?? []),
		...planServerIds(desired),
		...planVips(desired.vips, actual.vips, isPoolThere),
		...pools.flatMap((p) => planRemovals(p, actual.pools.get(p.name))),
		...planPoolRemovals(desired, actual),
	];
}

function planPool(pool: Pool, actual: ActualPool | undefined): (PoolAdd | BackendAdd | BackendState)[] {
	const changes: (PoolAdd | BackendAdd | BackendState)[] = actual === undefined ? [{ kind: 'pool-add', pool: pool.name }] : [];
	for (const { address, state, local } of pool.backends) {
		const put: BackendPut = { pool: pool.name, address, state, encap: pool.encap, local };
		const was = actual?.backends.get(address);
		if (was === undefined) changes.push({ kind: 'backend-add', pool: pool.name, put });
		else if (!isSame(put, was)) changes.push({ kind: 'backend-state', pool: pool.name, put, was });
	}
	return changes;
}

function isSame(put: BackendPut, was: ActualBackend): boolean {
	return put.state === was.state && put.encap === was.encap && put.local === was.local;
}

function planRing(pool: Pool, actual: ActualPool | undefined): RingSwapChange | null {
	const members: RingMember[] = ringMembers(pool.backends).map(({ address, weight }) => ({ address, weight }));
	const was = new Map([...(actual?.backends.values() ?? [])].filter((b) => b.weight > 0).map((b) => [b.address, b.weight]));
	const wanted = new Map(members.map((m) => [m.address, m.weight]));
	const joins = members.filter((m) => !was.has(m.address)).map((m) => m.address);
	const leaves = [...was.keys()].filter((a) => !wanted.has(a)).sort(compareAddresses);
	const reweighted = members.filter((m) => (was.get(m.address) ?? m.weight) !== m.weight).map((m) => m.address);
	const wasHash = actual?.ring?.hash ?? null;
	if (wasHash === pool.hash && joins.length + leaves.length + reweighted.length === 0) return null;
	const ring: RingSpec = { pool: pool.name, hash: pool.hash, members };
	return { kind: 'ring-swap', pool: pool.name, ring, wasHash, joins, leaves, reweighted };
}

function planServerIds(desired: Desired): ServerIdsChange[] {
	return desired.serverIds === null ? [] : [{ kind: 'server-ids', ...desired.serverIds }];
}

/** A vip of a pool that is not there and not in this plan waits for the plan that makes the pool. */
function planVips(desired: ReadonlyMap<string, Vip>, actual: ReadonlyMap<string, Vip>, isPoolThere: (pool: string) => boolean): Change[] {
	const puts: [string, VipAdd | VipChange][] = [];
	for (const [key, vip] of desired) {
		const was = actual.get(key);
		if (!isPoolThere(vip.pool)) continue;
		if (was === undefined) puts.push([key, { kind: 'vip-add', vip }]);
		else if (was.pool !== vip.pool || was.flags.join() !== vip.flags.join()) puts.push([key, { kind: 'vip-change', vip, was }]);
	}
	const gone = [...actual]
		.filter(([key]) => !desired.has(key))
		.map(([key, vip]): [string, VipRemove] => [key, { kind: 'vip-remove', vip }]);
	return [...puts.sort(byKey), ...gone.sort(byKey)].map(([, change]) => change);
}

function planRemovals(pool: Pool, actual: ActualPool | undefined): BackendRemove[] {
	const wanted = new Set(pool.backends.map((b) => b.address));
	const gone: Address[] = [...(actual?.backends.keys() ?? [])].filter((a) => !wanted.has(a)).sort(compareAddresses);
	return gone.map((address) => ({ kind: 'backend-remove', pool: pool.name, address }));
}

/** Pools that are no longer configured go once no vip names them: until then something is still served from them. */
function planPoolRemovals(desired: Desired, actual: ActualState): PoolRemove[] {
	const named = new Set([...desired.vips.values()].map((v) => v.pool));
	const gone = [...actual.pools.keys()].filter((name) => !desired.pools.has(name) && !desired.unanswered.has(name) && !named.has(name));
	return gone.sort().map((pool) => ({ kind: 'pool-remove', pool }));
}

function byName(a: Pool, b: Pool): number {
	return a.name < b.name ? -1 : 1;
}

function byKey([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number {
	return a < b ? -1 : 1;
}
