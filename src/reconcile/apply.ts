// SPDX-License-Identifier: Apache-2.0
// Carries a plan out, stage by stage. Idempotent: a plan that failed half-way is made anew from what the maps hold
// then, and does the rest. One call of each stage serves all pools; when it fails, the pools are tried apart, so that one
// pool's trouble is its own. All rings of a plan go in one batch: one grace period for all of them.
import type { BackendPut, Datapath, RingSpec, RingSwap } from '../datapath/datapath.ts';
import type { Env } from '../env.ts';
import type { Address } from '../model/address.ts';
import { type Vip, vipKey } from '../model/vip.ts';
import type { Change } from './change.ts';
import { isRetryable } from './retry.ts';

export interface Applied {
	readonly swaps: readonly RingSwap[];
	/** By pool: why its changes, or some of them, were not made. */
	readonly failed: ReadonlyMap<string, unknown>;
	/** What failed and belongs to no pool: vips, server ids, pools that left. */
	readonly error: unknown;
	/** Env.now() at which packets had taken all of it; only the removal of what they use no more came later. */
	readonly servedAt: number;
}

/** Applies the changes in the order of the stages, whatever theirs. Never throws: failures are in the result. */
export async function applyChanges(datapath: Datapath, changes: readonly Change[], env: Pick<Env, 'now'>): Promise<Applied> {
	return new Application(datapath, changes).run(env);
}

class Application {
	readonly #datapath: Datapath;
	readonly #changes: readonly Change[];
	readonly #failed = new Map<string, unknown>();
	#error: unknown;
	#swaps: readonly RingSwap[] = [];

	constructor(datapath: Datapath, changes: readonly Change[]) {
		this.#datapath = datapath;
		this.#changes = changes;
	}

	async run(env: Pick<Env, 'now'>): Promise<Applied> {
		this.#putBackends(this.#changes.flatMap((c) => (c.kind === 'backend-add' || c.kind === 'backend-state' ? c.put : [])));
		const rings = this.#changes.flatMap((c) => (c.kind === 'ring-swap' && !this.#failed.has(c.pool) ? c.ring : []));
		if (rings.length > 0) this.#swaps = await this.#swapRings(rings);
		for (const c of this.#changes) {
			if (c.kind === 'server-ids') await this.#shared(() => this.#datapath.putServerIds(c.ids, c.encap));
		}
		await this.#putVips();
		const servedAt = env.now();
		await this.#removeBackends();
		await this.#removePools();
		return { swaps: this.#swaps, failed: this.#failed, error: this.#error, servedAt };
	}

	#putBackends(puts: readonly BackendPut[]): void {
		if (puts.length === 0) return;
		try {
			this.#datapath.putBackends(puts);
			return;
		} catch (error) {
			const pools = groupBy(puts, (p) => p.pool);
			if (pools.size === 1) this.#fail(pools.keys(), error);
			else for (const mine of pools.values()) this.#putBackends(mine);
		}
	}

	/** By halves, so that one bad ring among thousands costs a dozen more batches; a passing trouble is left to the next try. */
	async #swapRings(rings: readonly RingSpec[]): Promise<RingSwap[]> {
		try {
			return await this.#datapath.swapRings(rings);
		} catch (error) {
			if (rings.length === 1 || isRetryable(error)) {
				this.#fail(
					rings.map((r) => r.pool),
					error,
				);
				return [];
			}
			const half = rings.length >> 1;
			return [...(await this.#swapRings(rings.slice(0, half))), ...(await this.#swapRings(rings.slice(half)))];
		}
	}

	/** The present vips with the changes made; a vip whose new pool could not be made stays as it is. */
	async #putVips(): Promise<void> {
		const changed = this.#changes.filter((c) => c.kind === 'vip-add' || c.kind === 'vip-change' || c.kind === 'vip-remove');
		if (changed.length === 0) return;
		const { vips: present, pools } = this.#datapath.actual();
		const vips = new Map<string, Vip>(present);
		for (const c of changed) {
			if (c.kind === 'vip-remove') vips.delete(vipKey(c.vip));
			else if (pools.has(c.vip.pool)) vips.set(vipKey(c.vip), c.vip);
			else this.#error = this.#failed.get(c.vip.pool);
		}
		await this.#shared(() => this.#datapath.putVips(vips.values()));
	}

	/** What the present ring still names stays: its swap failed. */
	async #removeBackends(): Promise<void> {
		const removals = groupBy(
			this.#changes.filter((c) => c.kind === 'backend-remove'),
			(c) => c.pool,
		);
		if (removals.size === 0) return;
		const { pools } = this.#datapath.actual();
		// Together: their grace periods are one.
		const removed = [...removals].map(async ([pool, gone]) => {
			const isFree = (a: Address) => (pools.get(pool)?.backends.get(a)?.weight ?? 0) === 0;
			const addresses = gone.map((c) => c.address).filter(isFree);
			if (addresses.length > 0) await this.#datapath.removeBackends(pool, addresses).catch((e: unknown) => this.#fail([pool], e));
		});
		await Promise.all(removed);
	}

	async #removePools(): Promise<void> {
		const names = this.#changes.flatMap((c) => (c.kind === 'pool-remove' ? c.pool : []));
		if (names.length > 0) await this.#shared(() => this.#datapath.removePools(names));
	}

	async #shared(write: () => Promise<void>): Promise<void> {
		try {
			await write();
		} catch (error) {
			this.#error = error;
		}
	}

	#fail(pools: Iterable<string>, error: unknown): void {
		for (const pool of pools) if (!this.#failed.has(pool)) this.#failed.set(pool, error);
	}
}

function groupBy<T>(items: readonly T[], key: (item: T) => string): Map<string, T[]> {
	const groups = new Map<string, T[]>();
	for (const item of items) {
		const group = groups.get(key(item));
		if (group === undefined) groups.set(key(item), [item]);
		else group.push(item);
	}
	return groups;
}
