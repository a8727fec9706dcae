// SPDX-License-Identifier: Apache-2.0
// The loop behind every registry watch: try, and on any failure say so, wait and try again, for ever. Only close()
// ends it. Retries are spread by full jitter, so that a fleet does not return to a recovering registry at once.
import { type Env, sleep } from '../env.ts';
import { messageOf, XdpilotError } from '../errors.ts';
import type { OutageLog } from './outage-log.ts';
import type { Watch } from './source.ts';
import type { WatchHealth } from './watch-health.ts';

export interface BackoffLimits {
	readonly minMs: number;
	readonly maxMs: number;
}

/** Registries answer within milliseconds; 5 s bounds how long a healthy one can go unnoticed. */
export const BACKOFF: BackoffLimits = { minMs: 100, maxMs: 5000 };

/** Full jitter: each wait is uniform between nothing and a ceiling that doubles. */
export class Backoff {
	readonly #env: Env;
	readonly #limits: BackoffLimits;
	#ceiling: number;

	constructor(env: Env, limits: BackoffLimits) {
		this.#env = env;
		this.#limits = limits;
		this.#ceiling = limits.minMs;
	}

	/** Milliseconds to wait before the next attempt. */
	next(): number {
		const ms = this.#env.random() * this.#ceiling;
		this.#ceiling = Math.min(this.#ceiling * 2, this.#limits.maxMs);
		return ms;
	}

	reset(): void {
		this.#ceiling = this.#limits.minMs;
	}
}

/** `ms`, give or take a fifth: timers of a fleet that started together drift apart. */
export function jittered(env: Env, ms: number): number {
	return ms * (0.8 + 0.4 * env.random());
}

/** Settles as `promise` does, or rejects after `ms` or when the signal aborts. Does not stop what the promise stands for. */
export function bounded<T>(env: Env, promise: Promise<T>, ms: number, what: string, signal?: AbortSignal): Promise<T> {
	return new Promise((resolve, reject) => {
		const done = () => {
			timer.cancel();
			signal?.removeEventListener('abort', onAbort);
		};
		const onAbort = () => {
			done();
			reject(signal?.reason);
		};
		const timer = env.setTimer(ms, () => {
			done();
			reject(new XdpilotError('E_SOURCE', `${what} took longer than ${ms} ms`, { retryable: true }));
		});
		if (signal?.aborted) return onAbort();
		signal?.addEventListener('abort', onAbort, { once: true });
		promise.then(
			(value) => {
				done();
				resolve(value);
			},
			(e) => {
				done();
				reject(e);
			},
		);
	});
}

export interface LoopOptions {
	readonly service: string;
	readonly env: Env;
	readonly outages: OutageLog;
	readonly health: WatchHealth;
	readonly backoff?: BackoffLimits;
	/**
	 * One attempt: watches until the signal aborts or something fails. It calls `settled` when it is working, which
	 * shortens the next wait again. Returning without an error means: again, at once.
	 */
	readonly attempt: (signal: AbortSignal, settled: () => void) => Promise<void>;
	/** Runs once when the loop has ended. */
	readonly onClosed: () => void;
}

/** Starts the loop. */
export function startLoop(opts: LoopOptions): Watch {
	const abort = new AbortController();
	const done = runLoop(opts, abort.signal).finally(() => {
		opts.outages.closed(opts);
		opts.onClosed();
	});
	return {
		close() {
			abort.abort(new XdpilotError('E_SOURCE', `the watch of ${opts.service} was closed`));
			return done;
		},
	};
}

async function runLoop(opts: LoopOptions, signal: AbortSignal): Promise<void> {
	const { env, outages, health } = opts;
	const backoff = new Backoff(env, opts.backoff ?? BACKOFF);
	const settled = () => {
		outages.recovered(opts);
		backoff.reset();
	};
	while (!signal.aborted) {
		try {
			await opts.attempt(signal, settled);
		} catch (e) {
			if (signal.aborted) return;
			health.failed(messageOf(e));
			outages.failed(opts, messageOf(e));
			await sleep(env, backoff.next(), signal).catch(() => undefined);
		}
	}
}
