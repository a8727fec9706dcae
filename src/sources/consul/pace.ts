// SPDX-License-Identifier: Apache-2.0
// How soon the next query may follow. Consul itself sets no limit: a busy catalog, or a broken proxy that answers at
// once, would otherwise be asked thousands of times a second. Answers without news make the pace slower, to a bound
// that a failing backend can still afford.
import type { Env } from '../../env.ts';

export interface PaceLimits {
	/** Milliseconds from the start of one query to the start of the next. */
	readonly minMs: number;
	/** The same after several answers in a row that came quickly and said nothing new. */
	readonly idleMs: number;
}

/** Quick answers without news that are put up with before the pace slows. */
const PATIENCE = 3;

export class Pace {
	readonly #env: Env;
	readonly #limits: PaceLimits;
	#idle = 0;

	constructor(env: Env, limits: PaceLimits) {
		this.#env = env;
		this.#limits = limits;
	}

	/** Milliseconds to wait before the next query; `startedAt` is when the last one began. */
	next(startedAt: number, wasNews: boolean): number {
		const { minMs, idleMs } = this.#limits;
		const tookMs = this.#env.now() - startedAt;
		this.#idle = wasNews || tookMs > idleMs ? 0 : this.#idle + 1;
		const interval = Math.min(idleMs, minMs * 2 ** Math.max(0, this.#idle - PATIENCE));
		return Math.max(0, interval - tookMs);
	}
}
