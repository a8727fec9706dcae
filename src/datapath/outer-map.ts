// SPDX-License-Identifier: Apache-2.0
// The outer ring map, whose every update waits for a grace period: after it, no packet can still be reading what was
// replaced. All that is asked for while one batch is in flight goes into the next one together, so that a whole
// reconcile, and the grace periods of everything else, cost one wait. Kernels before 6.8 or so wait once for each
// element of a batch: that is timed, not looked up, and parallel single updates are used there.
import type { Env } from '../env.ts';
import type { BpfMap } from '../native/addon.d.ts';
import { kernelError } from './kernel-error.ts';

/** An inner map for a slot. */
export interface SlotWrite {
	readonly slot: number;
	readonly inner: BpfMap;
}

interface Request {
	readonly writes: readonly SlotWrite[];
	readonly resolve: () => void;
	readonly reject: (e: unknown) => void;
}

/** Above this many elements a batch is worth timing first. */
const TIMED_ABOVE = 4;
const TIMINGS = 3;
/** A batch of two that costs this many times one update waits for each element. */
const PER_ELEMENT = 1.6;
const THREADS = 64;

export class OuterMap {
	readonly #map: BpfMap;
	readonly #env: Env;
	readonly #scratch: readonly [SlotWrite, SlotWrite];
	#waiting: Request[] = [];
	#running: Promise<void> | undefined;
	#batchWaitsPerElement: boolean | undefined;

	/** `scratch`: two slots that no pool has, and any inner map to put there. */
	constructor(map: BpfMap, env: Env, scratch: { readonly slot: number; readonly inner: BpfMap }) {
		this.#map = map;
		this.#env = env;
		this.#scratch = [scratch, { slot: scratch.slot + 1, inner: scratch.inner }];
	}

	/** Stores the inner maps; packets see each at once. Resolves when no packet can read the replaced ones. */
	put(writes: readonly SlotWrite[]): Promise<void> {
		return new Promise((resolve, reject) => {
			this.#waiting.push({ writes, resolve, reject });
			this.#running ??= this.#run();
		});
	}

	/** Resolves when no packet that came before this call is still being handled. */
	grace(): Promise<void> {
		return this.put([this.#scratch[0]]);
	}

	/** Resolves when nothing is in flight. */
	async idle(): Promise<void> {
		await this.#running;
	}

	async #run(): Promise<void> {
		// Requests of the same turn of the event loop go into the first batch together.
		await Promise.resolve();
		while (this.#waiting.length > 0) {
			const requests = this.#waiting;
			this.#waiting = [];
			try {
				await this.#write(requests.flatMap((r) => r.writes));
				for (const r of requests) r.resolve();
			} catch (e) {
				for (const r of requests) r.reject(kernelError('swap rings in', e));
			}
		}
		this.#running = undefined;
	}

	async #write(writes: readonly SlotWrite[]): Promise<void> {
		// One slot once: the batch has no order that could be relied on when parallel updates are used.
		const bySlot = new Map(writes.map((w) => [w.slot, w]));
		const unique = [...bySlot.values()];
		if (unique.length > TIMED_ABOVE) this.#batchWaitsPerElement ??= await this.#measure();
		const keys = words(unique.map((w) => w.slot));
		const values = words(unique.map((w) => w.inner.fd));
		if (unique.length > 1 && this.#batchWaitsPerElement) await this.#map.updateParallelAsync(keys, values, THREADS);
		else await this.#map.updateBatchAsync(keys, values);
	}

	/** Whether a batch of two costs two waits: the best of a few timings each. */
	async #measure(): Promise<boolean> {
		const best = async (writes: readonly SlotWrite[]) => {
			let shortest = Number.POSITIVE_INFINITY;
			for (let i = 0; i < TIMINGS; i++) {
				const start = this.#env.now();
				await this.#map.updateBatchAsync(words(writes.map((w) => w.slot)), words(writes.map((w) => w.inner.fd)));
				shortest = Math.min(shortest, this.#env.now() - start);
			}
			return shortest;
		};
		const one = await best(this.#scratch.slice(0, 1));
		return (await best(this.#scratch)) > PER_ELEMENT * one;
	}
}

function words(numbers: readonly number[]): Uint8Array {
	return new Uint8Array(Uint32Array.from(numbers).buffer);
}
