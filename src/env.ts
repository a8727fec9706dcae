// SPDX-License-Identifier: Apache-2.0
// The one door to time, timers and randomness. Everything in src/ that needs them takes an Env, so that a
// virtual-clock simulator can replay whole outages from a seed; the linter bans the globals elsewhere.
import { performance } from 'node:perf_hooks';

export interface Timer {
	/** Cancels the timer; harmless when it has fired. */
	cancel(): void;
}

export interface Env {
	/** Monotonic milliseconds; only differences mean anything. */
	now(): number;
	/** Milliseconds since the Unix epoch, for people and logs, never for intervals. */
	wallNow(): number;
	/** Calls `fn` once after `ms` milliseconds. Does not keep the process alive when `unref` is set. */
	setTimer(ms: number, fn: () => void, opts?: { unref?: boolean }): Timer;
	/** Uniform in [0, 1). */
	random(): number;
}

/** The real world. */
export const systemEnv: Env = {
	now: () => performance.now(),
	wallNow: () => Date.now(),
	setTimer(ms, fn, opts) {
		const t = setTimeout(fn, ms);
		if (opts?.unref) t.unref();
		return { cancel: () => clearTimeout(t) };
	},
	random: () => Math.random(),
};

/** Resolves after `ms`, or rejects with the signal's reason as soon as it aborts. */
export function sleep(env: Env, ms: number, signal?: AbortSignal): Promise<void> {
	return new Promise((resolve, reject) => {
		if (signal?.aborted) return reject(signal.reason);
		const onAbort = () => {
			timer.cancel();
			reject(signal?.reason);
		};
		const timer = env.setTimer(ms, () => {
			signal?.removeEventListener('abort', onAbort);
			resolve();
		});
		signal?.addEventListener('abort', onAbort, { once: true });
	});
}

/** ISO 8601 text of a moment in milliseconds since the Unix epoch (Env.wallNow). */
export function isoTime(epochMs: number): string {
	return new Date(epochMs).toISOString();
}
