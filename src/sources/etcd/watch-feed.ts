// SPDX-License-Identifier: Apache-2.0
// The events of one etcd3 watcher, to be taken in batches. Its first failure of any kind is its last word: listeners
// are attached before anything can arrive, and what etcd3 would do next (reconnect, resume) is cut off at once.
import type { IEvent, IWatchResponse, Watcher } from 'etcd3';
import type { Env } from '../../env.ts';
import { messageOf } from '../../errors.ts';

export interface WatchBatch {
	/** In the order of the registry; empty when only progress was reported. */
	readonly events: readonly IEvent[];
	/** Of the registry when the last response was sent. */
	readonly revision: bigint;
	/** Env.now() when it arrived. */
	readonly observedAt: number;
}

export class WatchFeed {
	readonly #watcher: Watcher;
	readonly #env: Env;
	#pending: WatchBatch[] = [];
	/** Why nothing will come any more; undefined inside: it was ended on purpose. */
	#end: { readonly error: unknown } | undefined;
	#isConnected = false;
	#wake: (() => void) | undefined;
	#onEnd: (e: unknown) => void = () => undefined;
	/** Resolves when the member has accepted the watch. */
	readonly connected: Promise<void>;

	constructor(watcher: Watcher, env: Env) {
		this.#watcher = watcher;
		this.#env = env;
		watcher.on('data', (response: IWatchResponse) => this.#onData(response));
		watcher.on('disconnected', (e?: Error) => this.#break(`the watch was cut: ${e === undefined ? 'no reason given' : messageOf(e)}`));
		watcher.on('error', (e: Error) =>
			this.#break(`the watch was refused: ${messageOf(e).replace(/^Watcher canceled: $/, 'its start is compacted away')}`),
		);
		watcher.on('end', () => this.#break('the watch ended'));
		this.connected = new Promise((resolve, reject) => {
			watcher.on('connected', () => {
				if (this.#isConnected) this.#break('the watch was reconnected by the library');
				this.#isConnected = true;
				resolve();
			});
			this.#onEnd = reject;
		});
		this.connected.catch(() => undefined);
	}

	/** Waits for events: all that have arrived, as one batch; undefined when end() was called. @throws why the watch broke */
	async take(): Promise<WatchBatch | undefined> {
		while (this.#pending.length === 0 && this.#end === undefined) {
			await new Promise<void>((resolve) => {
				this.#wake = resolve;
			});
		}
		if (this.#end?.error !== undefined) throw this.#end.error;
		const last = this.#pending.at(-1);
		if (this.#end !== undefined || last === undefined) return undefined;
		const events = this.#pending.flatMap((b) => b.events);
		this.#pending = [];
		return { ...last, events };
	}

	/** Makes take() return undefined, or throw. */
	end(error?: unknown): void {
		if (this.#end !== undefined) return;
		this.#end = { error };
		this.#pending = [];
		this.#onEnd(error ?? new Error('the watch was closed'));
		this.#wake?.();
	}

	/** Settles when the watcher is cancelled, which a broken stream may never tell. */
	close(): Promise<void> {
		this.end();
		return this.#watcher.cancel();
	}

	#onData(response: IWatchResponse): void {
		if (this.#end !== undefined) return;
		this.#pending.push({ events: response.events, revision: BigInt(response.header.revision), observedAt: this.#env.now() });
		this.#wake?.();
	}

	#break(reason: string): void {
		this.end(new Error(reason));
		// Now, before the library's own reconnect: it would resume after changes that it never delivered.
		this.#watcher.cancel().catch(() => undefined);
	}
}
