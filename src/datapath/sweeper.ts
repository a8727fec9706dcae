// SPDX-License-Identifier: Apache-2.0
// Forgets flows that were silent for days, before the 24 bits of their time wrap and make them look young again.
import type { Env, Timer } from '../env.ts';
import type { FlowTable } from './flow-table.ts';

/** Half of the 12 days after which 24 bits of 64 ms wrap. */
const MAX_AGE_SECONDS = 6 * 24 * 3600;
const PERIOD_MS = 6 * 3600 * 1000;

export class Sweeper {
	readonly #env: Env;
	readonly #flows: FlowTable;
	readonly #onError: (e: unknown) => void;
	#timer: Timer;
	#running: Promise<void> = Promise.resolve();

	/** Runs every six hours until closed. `onError` gets what a sweep threw; the next one comes all the same. */
	constructor(env: Env, flows: FlowTable, onError: (e: unknown) => void) {
		this.#env = env;
		this.#flows = flows;
		this.#onError = onError;
		this.#timer = this.#schedule();
	}

	/** Resolves when no sweep is running any more. */
	async close(): Promise<void> {
		this.#timer.cancel();
		await this.#running;
	}

	#schedule(): Timer {
		return this.#env.setTimer(
			PERIOD_MS,
			() => {
				this.#timer = this.#schedule();
				this.#running = this.#flows.expire(MAX_AGE_SECONDS).then(() => undefined, this.#onError);
			},
			{ unref: true },
		);
	}
}
