// SPDX-License-Identifier: Apache-2.0
// An Env whose clock stands still until a test moves it, and whose randomness comes from a seed: whole outages
// run in microseconds and the same seed gives the same run. After each timer all microtasks are drained, so that
// what a timer set off is done before the next one fires.
import type { Env, Timer } from '../../src/env.ts';

interface Pending {
	readonly at: number;
	readonly sequence: number;
	readonly fn: () => void;
	cancelled: boolean;
}

/** Virtual time starts at 1,000,000 ms monotonic, 2026-01-01T00:00:00Z on the wall: never equal, so that mixing them up shows. */
export class VirtualEnv implements Env {
	#now = 1_000_000;
	#sequence = 0;
	#pending: Pending[] = [];
	#state: number;
	readonly #wallOffset = 1_767_225_600_000 - 1_000_000;

	constructor(seed = 1) {
		this.#state = seed >>> 0;
	}

	now(): number {
		return this.#now;
	}

	wallNow(): number {
		return this.#now + this.#wallOffset;
	}

	setTimer(ms: number, fn: () => void): Timer {
		const entry: Pending = { at: this.#now + Math.max(0, ms), sequence: this.#sequence++, fn, cancelled: false };
		this.#pending.push(entry);
		return {
			cancel: () => {
				entry.cancelled = true;
			},
		};
	}

	/** Mulberry32: 32 bits of state, uniform enough for back-off and fault draws. */
	random(): number {
		this.#state = (this.#state + 0x6d2b79f5) >>> 0;
		let t = this.#state;
		t = Math.imul(t ^ (t >>> 15), t | 1);
		t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
		return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
	}

	/** Timers that have not fired. */
	get pendingTimers(): number {
		return this.#pending.filter((p) => !p.cancelled).length;
	}

	/** Moves time forward by `ms`, firing timers in order of time, then of creation. */
	async advance(ms: number): Promise<void> {
		const end = this.#now + ms;
		await settle();
		for (let next = this.#take(end); next !== undefined; next = this.#take(end)) {
			this.#now = Math.max(this.#now, next.at);
			next.fn();
			await settle();
		}
		this.#now = end;
		await settle();
	}

	#take(end: number): Pending | undefined {
		this.#pending = this.#pending.filter((p) => !p.cancelled);
		const first = this.#pending.reduce<Pending | undefined>((best, p) => (best === undefined || before(p, best) ? p : best), undefined);
		if (first === undefined || first.at > end) return undefined;
		this.#pending = this.#pending.filter((p) => p !== first);
		return first;
	}
}

/** Lets everything that is ready run: all microtasks, and one turn of the event loop. */
export function settle(): Promise<void> {
	return new Promise((resolve) => setImmediate(resolve));
}

function before(a: Pending, b: Pending): boolean {
	return a.at < b.at || (a.at === b.at && a.sequence < b.sequence);
}
