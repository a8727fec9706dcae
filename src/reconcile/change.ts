// SPDX-License-Identifier: Apache-2.0
// A plan is a list of these: data that can be printed, compared and carried out. Each names what it changes and what
// was there before, so that a sentence can be made of it; describe.ts makes it, apply.ts carries it out.
import type { ActualBackend, BackendPut, RingSpec } from '../datapath/datapath.ts';
import type { Address } from '../model/address.ts';
import type { Encap, HashFunction } from '../model/pool.ts';
import type { Vip } from '../model/vip.ts';

export interface PoolAdd {
	readonly kind: 'pool-add';
	readonly pool: string;
}

export interface BackendAdd {
	readonly kind: 'backend-add';
	readonly pool: string;
	readonly put: BackendPut;
}

/** Another state, encapsulation or locality of a known backend. */
export interface BackendState {
	readonly kind: 'backend-state';
	readonly pool: string;
	readonly put: BackendPut;
	readonly was: ActualBackend;
}

/** Other members, weights or another hash. */
export interface RingSwapChange {
	readonly kind: 'ring-swap';
	readonly pool: string;
	readonly ring: RingSpec;
	/** null when there was no ring. */
	readonly wasHash: HashFunction | null;
	readonly joins: readonly Address[];
	readonly leaves: readonly Address[];
	readonly reweighted: readonly Address[];
}

export interface ServerIdsChange {
	readonly kind: 'server-ids';
	readonly ids: ReadonlyMap<number, Address>;
	readonly encap: Encap;
}

export interface VipAdd {
	readonly kind: 'vip-add';
	readonly vip: Vip;
}

export interface VipChange {
	readonly kind: 'vip-change';
	readonly vip: Vip;
	readonly was: Vip;
}

export interface VipRemove {
	readonly kind: 'vip-remove';
	readonly vip: Vip;
}

export interface BackendRemove {
	readonly kind: 'backend-remove';
	readonly pool: string;
	readonly address: Address;
}

export interface PoolRemove {
	readonly kind: 'pool-remove';
	readonly pool: string;
}

/** In the order of the stages in which they are applied. */
export type Change =
	| PoolAdd
	| BackendAdd
	| BackendState
	| RingSwapChange
	| ServerIdsChange
	| VipAdd
	| VipChange
	| VipRemove
	| BackendRemove
	| PoolRemove;

/** The pool that a change belongs to; null for vips and server ids. */
export function poolOf(change: Change): string | null {
	switch (change.kind) {
		case 'server-ids':
		case 'vip-add':
		case 'vip-change':
		case 'vip-remove':
			return null;
		default:
			return change.pool;
	}
}

/** What of a plan belongs to each pool. */
export function changesByPool(changes: readonly Change[]): Map<string, Change[]> {
	const byPool = new Map<string, Change[]>();
	for (const change of changes) {
		const pool = poolOf(change);
		if (pool === null) continue;
		const mine = byPool.get(pool);
		if (mine === undefined) byPool.set(pool, [change]);
		else mine.push(change);
	}
	return byPool;
}
