// SPDX-License-Identifier: Apache-2.0
// What should be: configuration and beliefs of all pools in one value. A pool whose source has not answered is in
// `unanswered` instead of `pools`, so that nobody can take its absence for emptiness.
import type { ActualState } from '../datapath/datapath.ts';
import type { Address } from '../model/address.ts';
import type { Backend } from '../model/backend.ts';
import type { DesiredState, Encap, HashFunction, Pool } from '../model/pool.ts';
import { type Vip, vipKey } from '../model/vip.ts';

export interface Desired extends DesiredState {
	/** Configured pools whose source has not answered yet: left as they are. */
	readonly unanswered: ReadonlySet<string>;
	/** To be written; null when they have been. */
	readonly serverIds: { readonly ids: ReadonlyMap<number, Address>; readonly encap: Encap } | null;
	/** Configured vips that can't be served yet, by key, with the reason. */
	readonly waitingVips: ReadonlyMap<string, string>;
}

export interface DesiredPool {
	readonly name: string;
	readonly source: string;
	readonly hash: HashFunction;
	readonly encap: Encap;
	/** null while its source has not answered. */
	readonly backends: readonly Backend[] | null;
}

/** By vipKey(), in the given order. */
export function vipsByKey(vips: readonly Vip[]): Map<string, Vip> {
	return new Map(vips.map((v) => [vipKey(v), v]));
}

/** Puts it together. A vip whose pool nobody knows yet keeps the pool that serves it now; a new one waits. */
export function desiredState(
	pools: Iterable<DesiredPool>,
	vips: ReadonlyMap<string, Vip>,
	serverIds: Desired['serverIds'],
	actual: ActualState,
): Desired {
	const known = new Map<string, Pool>();
	const unanswered = new Map<string, DesiredPool>();
	for (const p of pools) {
		if (p.backends === null) unanswered.set(p.name, p);
		else known.set(p.name, { name: p.name, hash: p.hash, encap: p.encap, backends: p.backends });
	}
	const served = new Map<string, Vip>();
	const waitingVips = new Map<string, string>();
	for (const [key, vip] of vips) {
		const present = actual.vips.get(key);
		if (known.has(vip.pool) || actual.pools.has(vip.pool)) {
			served.set(key, vip);
			continue;
		}
		waitingVips.set(key, `pool ${vip.pool} waits for the first answer of source ${unanswered.get(vip.pool)?.source ?? '?'}`);
		if (present !== undefined) served.set(key, present);
	}
	return { pools: known, unanswered: new Set(unanswered.keys()), vips: served, serverIds, waitingVips };
}
