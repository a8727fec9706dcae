// SPDX-License-Identifier: Apache-2.0
// What failed of one pool, or of what belongs to none, and when it is tried again. Logged once for each new reason,
// not at every try, and once when it is mended.
import type { Env, Timer } from '../env.ts';
import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import { retryDelay } from './retry.ts';

export interface FailureOptions {
	readonly env: Env;
	/** Says what it is that fails. */
	readonly logger: Logger;
	/** Called when it is time for another try. */
	readonly again: () => void;
}

export class Failure {
	readonly #opts: FailureOptions;
	#attempts = 0;
	#timer: Timer | undefined;
	#message: string | null = null;

	constructor(opts: FailureOptions) {
		this.#opts = opts;
	}

	/** Why the last try failed; null once mended. */
	get message(): string | null {
		return this.#message;
	}

	failed(error: unknown): void {
		const { env, logger, again } = this.#opts;
		const delay = retryDelay(env, error, this.#attempts++);
		const message = messageOf(error);
		if (message !== this.#message) logger.error({ err: error, retryMs: Math.round(delay) }, `not written: ${message}`);
		this.#message = message;
		this.#timer?.cancel();
		this.#timer = env.setTimer(delay, again, { unref: true });
	}

	succeeded(): void {
		if (this.#message !== null) this.#opts.logger.info('written at last');
		this.#message = null;
		this.#attempts = 0;
		this.#timer?.cancel();
	}

	close(): void {
		this.#timer?.cancel();
	}
}
