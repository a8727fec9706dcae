// SPDX-License-Identifier: Apache-2.0
// The guard of one pool in time: keeps the belief and the last snapshot, judges again when a drain or a hold ends or
// when the rules change, and says when the data plane must follow. All judgement is guard.ts; this is only its clock.
import type { Env, Timer } from '../env.ts';
import type { Logger } from '../log.ts';
import type { Backend } from '../model/backend.ts';
import type { Snapshot } from '../model/snapshot.ts';
import type { Admission } from './admit.ts';
import { adoptedBelief, type Belief, backendsOf } from './belief.ts';
import { type GuardPolicy, judge } from './guard.ts';

export interface GuardRules {
	readonly policy: GuardPolicy;
	readonly admission: Admission;
}

export interface PoolGuardOptions {
	readonly pool: string;
	readonly env: Env;
	readonly logger: Logger;
	readonly rules: GuardRules;
	/** What the data plane holds for this pool; the first snapshot is judged against it. */
	readonly adopted: Iterable<Backend>;
	/** Whether the source can be reached now. */
	readonly isSourceUp: () => boolean;
	/** The desired backends have changed; `urgent` when one of them failed. */
	readonly onChange: (urgent: boolean) => void;
}

/** A pool's guard. The listener is called from offer(), configure() and timers, never re-entrantly from the constructor. */
export class PoolGuard {
	readonly #opts: PoolGuardOptions;
	#rules: GuardRules;
	#belief: Belief;
	/** The last snapshot offered; the belief rests on it. */
	#snapshot: Snapshot | null = null;
	/** backendsOf(#belief), made when it is asked for. */
	#desired: readonly Backend[] | null = null;
	#otherService = false;
	#timer: Timer | undefined;

	constructor(opts: PoolGuardOptions) {
		this.#opts = opts;
		this.#rules = opts.rules;
		this.#belief = adoptedBelief(opts.adopted);
	}

	get belief(): Belief {
		return this.#belief;
	}

	/** The snapshot that the belief rests on; null until the source has answered. */
	get snapshot(): Snapshot | null {
		return this.#snapshot;
	}

	/** What the data plane should hold, sorted by address; null while nobody knows. */
	desired(): readonly Backend[] | null {
		if (this.#snapshot === null) return null;
		this.#desired ??= backendsOf(this.#belief);
		return this.#desired;
	}

	/** Takes a new snapshot. Always reported as a change the first time, since only then may anything be pruned. */
	offer(snapshot: Snapshot): void {
		const isFirst = this.#snapshot === null;
		this.#snapshot = snapshot;
		this.#judge(isFirst);
		// Until something of the new service is there, what comes next is judged in the same light.
		this.#otherService &&= this.#belief.hold !== null;
	}

	/** New rules; judges the last snapshot by them. */
	configure(rules: GuardRules): void {
		this.#rules = rules;
		if (this.#snapshot !== null) this.#judge(false);
	}

	/** The pool is to be read from another service: the next snapshot may replace all members, but not by nothing. */
	expectOtherService(): void {
		this.#otherService = true;
	}

	close(): void {
		this.#timer?.cancel();
	}

	#judge(isFirst: boolean): void {
		const snapshot = this.#snapshot;
		if (snapshot === null) return;
		const { env, pool, isSourceUp, onChange } = this.#opts;
		const before = this.#belief;
		const verdict = judge({
			...this.#rules,
			pool,
			belief: before,
			snapshot,
			now: env.now(),
			sourceUp: isSourceUp(),
			otherService: this.#otherService,
		});
		this.#belief = verdict.belief;
		if (verdict.changed) this.#desired = null;
		this.#timer?.cancel();
		this.#timer = verdict.nextAt === null ? undefined : env.setTimer(verdict.nextAt - env.now(), () => this.#judge(false), { unref: true });
		this.#log(before, verdict.belief);
		if (verdict.changed || isFirst) onChange(verdict.urgent);
	}

	#log(before: Belief, after: Belief): void {
		const { logger, pool } = this.#opts;
		const { hold } = after;
		if (hold !== null && before.hold?.reason !== hold.reason) {
			logger.warn({ pool, removed: hold.removed, of: hold.of, holdMs: this.#rules.policy.holdMs }, `held: ${hold.reason}`);
		}
		if (hold === null && before.hold !== null) logger.info({ pool }, 'hold ended');
		const known = new Set(before.rejected.map((r) => `${r.instance} ${r.reason}`));
		const news = after.rejected.filter((r) => !known.has(`${r.instance} ${r.reason}`));
		for (const r of news.slice(0, 20)) logger.warn({ pool, instance: r.instance }, `rejected: ${r.reason}`);
		if (news.length > 20) logger.warn({ pool }, `rejected ${news.length - 20} more instances; xdpilot status lists them`);
	}
}
