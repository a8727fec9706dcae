// SPDX-License-Identifier: Apache-2.0
// Calls for another pass whenever links, addresses or routes change here, and now and then in case word of a change got
// lost. One pass at a time; one that fails is tried again.
import type { Env, Timer } from '../env.ts';
import { messageOf } from '../errors.ts';
import { type LineReader, readLines } from '../host/command.ts';

export interface FollowOptions {
	readonly env: Env;
	/** One pass. */
	readonly pass: () => Promise<void>;
	/** A pass failed; called once for each new reason. */
	readonly onFailure: (reason: string) => void;
}

/** Changes come in bursts: a link that comes up brings addresses and routes with it. */
const SETTLE_MS = 200;
const POLL_MS = 30_000;
const RETRY_MS = 5000;

export class Follower {
	readonly #opts: FollowOptions;
	readonly #monitors: LineReader[] = [];
	#timer: Timer | undefined;
	#dueAt = 0;
	#running: Promise<void> | undefined;
	#heardMeanwhile = false;
	#lastFailure = '';
	#closed = false;

	constructor(opts: FollowOptions) {
		this.#opts = opts;
		this.#listen();
		this.#passIn(POLL_MS);
	}

	/** Resolves when no pass is under way and none will follow. */
	async close(): Promise<void> {
		this.#closed = true;
		this.#timer?.cancel();
		await Promise.all(this.#monitors.map((m) => m.close()));
		await this.#running;
	}

	#listen(): void {
		const argv = ['ip', 'monitor', 'link', 'address', 'route'] as const;
		const restart = () => {
			this.#monitors.pop();
			if (!this.#closed) this.#opts.env.setTimer(RETRY_MS, () => this.#closed || this.#listen(), { unref: true });
		};
		this.#monitors.push(readLines(argv, undefined, () => this.#passIn(SETTLE_MS), restart));
	}

	#passIn(ms: number): void {
		if (this.#closed) return;
		if (this.#running !== undefined) {
			this.#heardMeanwhile = true;
			return;
		}
		const dueAt = this.#opts.env.now() + ms;
		if (this.#timer !== undefined && this.#dueAt <= dueAt) return;
		this.#timer?.cancel();
		this.#dueAt = dueAt;
		this.#timer = this.#opts.env.setTimer(ms, () => {
			this.#timer = undefined;
			this.#running = this.#pass();
		});
	}

	async #pass(): Promise<void> {
		let next = POLL_MS;
		try {
			await this.#opts.pass();
			this.#lastFailure = '';
		} catch (e) {
			const reason = messageOf(e);
			if (reason !== this.#lastFailure && !this.#closed) this.#opts.onFailure(reason);
			this.#lastFailure = reason;
			next = RETRY_MS;
		}
		this.#running = undefined;
		this.#passIn(this.#heardMeanwhile ? SETTLE_MS : next);
		this.#heardMeanwhile = false;
	}
}
