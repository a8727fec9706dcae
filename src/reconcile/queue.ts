// SPDX-License-Identifier: Apache-2.0
// The queue between guards and rounds, keyed by pool. A key waits until it was quiet, at most `max`; then it joins
// the next round. Contract (as client-go's work queue): a key waiting twice runs once; a key added while it runs
// runs again afterwards; no key is in two rounds at once. All keys that are ready go into one round together.
import PQueue from 'p-queue';
import type { Env, Timer } from '../env.ts';

export interface Debounce {
	/** Milliseconds without news after which a key is ready. */
	readonly quiet: number;
	/** Milliseconds after the first news at which it is ready, whatever still comes. */
	readonly max: number;
}

export interface DirtyQueueOptions {
	readonly env: Env;
	/** Works off the keys of one round. What it throws ends nothing: it is handed to onError. */
	readonly run: (keys: ReadonlySet<string>) => Promise<void>;
	readonly onError: (error: unknown) => void;
	/** Rounds at a time; 1 unless told. */
	readonly concurrency?: number;
}

interface Waiting {
	readonly firstAt: number;
	readyAt: number;
}

export class DirtyQueue {
	readonly #opts: DirtyQueueOptions;
	readonly #rounds: PQueue;
	readonly #waiting = new Map<string, Waiting>();
	readonly #running = new Set<string>();
	/** Fires no later than the earliest readyAt of a key that is not running. */
	#timer: Timer | undefined;
	#timerAt = Number.POSITIVE_INFINITY;
	/** A round is queued and has not taken its keys yet: it will take all that are ready by then. */
	#isRoundDue = false;
	#closed = false;

	constructor(opts: DirtyQueueOptions) {
		this.#opts = opts;
		this.#rounds = new PQueue({ concurrency: opts.concurrency ?? 1 });
	}

	/** Marks a key. Urgent ones are ready at once; otherwise each add pushes the quiet window, never past `max` from the first. */
	add(key: string, debounce: Debounce, urgent = false): void {
		if (this.#closed) return;
		const now = this.#opts.env.now();
		const waiting = this.#waiting.get(key);
		const firstAt = waiting?.firstAt ?? now;
		const readyAt = urgent ? now : Math.min(now + debounce.quiet, firstAt + debounce.max);
		// What was ready stays ready: news after an urgent one must not make it wait again.
		const isReady = waiting !== undefined && waiting.readyAt <= now;
		this.#waiting.set(key, { firstAt, readyAt: isReady ? waiting.readyAt : readyAt });
		// A running key is looked at again when its round ends.
		if (!this.#running.has(key)) this.#wakeAt(isReady ? waiting.readyAt : readyAt);
	}

	/** Forgets a key that is waiting. */
	drop(key: string): void {
		this.#waiting.delete(key);
	}

	/** Keys that wait or run. */
	get size(): number {
		return this.#waiting.size + this.#running.size;
	}

	/** Takes nothing new, lets the running round end. */
	async close(): Promise<void> {
		this.#closed = true;
		this.#timer?.cancel();
		this.#waiting.clear();
		await this.#rounds.onIdle();
	}

	#wakeAt(at: number): void {
		const { env } = this.#opts;
		if (this.#closed) return;
		if (at <= env.now()) {
			this.#queueRound();
			return;
		}
		if (at >= this.#timerAt) return;
		this.#timer?.cancel();
		this.#timerAt = at;
		this.#timer = env.setTimer(at - env.now(), () => {
			this.#timerAt = Number.POSITIVE_INFINITY;
			this.#wakeForNext();
		});
	}

	#wakeForNext(): void {
		let next = Number.POSITIVE_INFINITY;
		for (const [key, w] of this.#waiting) if (!this.#running.has(key)) next = Math.min(next, w.readyAt);
		if (Number.isFinite(next)) this.#wakeAt(next);
	}

	#queueRound(): void {
		if (this.#isRoundDue) return;
		this.#isRoundDue = true;
		void this.#rounds.add(() => this.#round());
	}

	async #round(): Promise<void> {
		// What was reported in the same breath as the key that is due goes with it.
		await null;
		this.#isRoundDue = false;
		const now = this.#opts.env.now();
		const ready = [...this.#waiting].filter(([key, w]) => w.readyAt <= now && !this.#running.has(key)).map(([key]) => key);
		for (const key of ready) {
			this.#waiting.delete(key);
			this.#running.add(key);
		}
		this.#wakeForNext();
		if (ready.length === 0) return;
		try {
			await this.#opts.run(new Set(ready));
		} catch (error) {
			this.#opts.onError(error);
		} finally {
			for (const key of ready) this.#running.delete(key);
			this.#wakeForNext();
		}
	}
}
