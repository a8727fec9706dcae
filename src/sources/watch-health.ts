// SPDX-License-Identifier: Apache-2.0
// What one watch knows about its own health, and how the watches of a source add up to its status.
// Invariant: a watch that has answered once never says `never` again, and the error shown belongs to the state shown.
import type { Env } from '../env.ts';
import type { SourceKind, SourceState, SourceStatus } from './source.ts';

export class WatchHealth {
	readonly #env: Env;
	/** Env.now() of the last good answer. */
	#goodAt: number | undefined;
	/** The failure since then. */
	#failure: string | undefined;
	/** Why answers, although they come, can't be trusted. */
	#doubt: string | undefined;

	constructor(env: Env) {
		this.#env = env;
	}

	/** An answer arrived that is well-formed and current. */
	good(): void {
		this.#goodAt = this.#env.now();
		this.#failure = undefined;
	}

	/** An answer did not come, or was none. */
	failed(reason: string): void {
		this.#failure = reason;
	}

	/** Answers come, but contradict what was known: the state is `stale` until trust(). */
	doubt(reason: string): void {
		this.#failure = undefined;
		this.#doubt = reason;
	}

	trust(): void {
		this.#doubt = undefined;
	}

	get isDoubted(): boolean {
		return this.#doubt !== undefined;
	}

	get state(): SourceState {
		if (this.#goodAt === undefined) return 'never';
		if (this.#failure !== undefined) return 'down';
		return this.#doubt === undefined ? 'up' : 'stale';
	}

	/** Milliseconds since the last good answer. */
	get age(): number | undefined {
		return this.#goodAt === undefined ? undefined : this.#env.now() - this.#goodAt;
	}

	get error(): string | undefined {
		return this.#failure ?? this.#doubt;
	}
}

/** Worst first: what a source says when its watches differ. */
const SEVERITY: readonly SourceState[] = ['down', 'stale', 'never', 'up'];

/** The state of the worst watch, the age of the oldest answer. */
export function sourceStatus(name: string, kind: SourceKind, healths: Iterable<WatchHealth>): SourceStatus {
	const all = [...healths];
	const state = SEVERITY.find((s) => all.some((h) => h.state === s)) ?? 'never';
	const ages = all.flatMap((h) => h.age ?? []);
	const error = state === 'up' ? undefined : all.find((h) => h.state === state && h.error !== undefined)?.error;
	return {
		name,
		kind,
		state,
		age_seconds: ages.length === 0 ? null : Math.round(Math.max(...ages)) / 1000,
		error: error ?? null,
	};
}
