// SPDX-License-Identifier: Apache-2.0
// The loop: snapshots go through the guards, changed pools into the queue, and one round at a time makes the data plane
// equal to what is desired. Level-based: a round compares all that its pools should be with what the maps hold, so a
// lost or failed round is made up for by the next. A pool that fails is marked and tried again; it blocks no other.
import type { ActualState, Datapath, DatapathLimits, RingSwap } from '../datapath/datapath.ts';
import type { Env } from '../env.ts';
import { isServing } from '../guard/belief.ts';
import { PoolGuard } from '../guard/pool-guard.ts';
import type { Logger } from '../log.ts';
import type { Backend } from '../model/backend.ts';
import type { Snapshot } from '../model/snapshot.ts';
import type { SourceState } from '../sources/source.ts';
import { type Applied, applyChanges } from './apply.ts';
import { type Change, changesByPool, poolOf } from './change.ts';
import { describeChange, summarize } from './describe.ts';
import { type Desired, type DesiredPool, desiredState, vipsByKey } from './desired.ts';
import { Failure } from './failure.ts';
import { planChanges } from './plan.ts';
import { type PoolRecord, poolStatus } from './pool-record.ts';
import { DirtyQueue } from './queue.ts';
import type { PoolSettings, Settings } from './settings.ts';
import type { PoolStatus, ReconcileStatus } from './status.ts';

export interface ReconcilerOptions {
	readonly env: Env;
	readonly logger: Logger;
	readonly datapath: Datapath;
	/** State of a source by name. */
	readonly sourceState: (source: string) => SourceState;
}

interface PoolApplied {
	readonly swap: RingSwap | undefined;
	readonly startedAt: number;
	readonly servedAt: number;
	/** Of a round so large that its pools are not logged one by one. */
	readonly isOneOfMany: boolean;
}

/** Not a pool's name (config/values.ts NAME): vips, server ids and pools that left the configuration. */
const REST = '*';
const AT_ONCE = { quiet: 0, max: 0 };
/** Pools, or vips, of one round that get a line in the log each. */
const LOGGED = 50;

export class Reconciler {
	readonly #opts: ReconcilerOptions;
	readonly #limits: DatapathLimits;
	readonly #queue: DirtyQueue;
	readonly #pools = new Map<string, PoolRecord>();
	#settings: Settings | undefined;
	#vips: Desired['vips'] = new Map();
	#serverIds: Desired['serverIds'] = null;
	#waitingVips: ReadonlyMap<string, string> = new Map();
	readonly #rest: Failure;
	#roundSince: number | null = null;
	#applied = 0;
	#swaps = 0;
	/** Called once when every pool has been answered and reconciled, or has failed. */
	#settled: (() => void)[] = [];

	constructor(opts: ReconcilerOptions) {
		this.#opts = opts;
		this.#limits = opts.datapath.limits;
		this.#rest = new Failure({ env: opts.env, logger: opts.logger, again: () => this.#queue.add(REST, AT_ONCE, true) });
		this.#queue = new DirtyQueue({
			env: opts.env,
			run: (keys) => this.#round(keys),
			onError: (error) => opts.logger.error({ err: error }, 'a reconcile failed unexpectedly'),
		});
	}

	/** Takes a configuration, the first or a new one. What did not change is not touched; pools that are new adopt what the maps hold. */
	configure(settings: Settings): void {
		const before = this.#settings;
		this.#settings = settings;
		this.#vips = vipsByKey(settings.vips);
		for (const name of [...this.#pools.keys()]) if (!settings.pools.has(name)) this.#forget(name);
		const actual = this.#opts.datapath.actual();
		for (const pool of settings.pools.values()) {
			const record = this.#pools.get(pool.name);
			if (record === undefined)
				this.#pools.set(pool.name, this.#newRecord(pool, settings, actual.pools.get(pool.name)?.backends.values() ?? []));
			else this.#reconfigure(record, pool, settings);
		}
		if (before === undefined || JSON.stringify(serverIdRows(before)) !== JSON.stringify(serverIdRows(settings))) {
			// A new data plane has none: nothing to clear.
			const isNothing = before === undefined && settings.serverIds?.ids.size === 0 && !this.#opts.datapath.info.adopted;
			this.#serverIds = isNothing ? null : settings.serverIds;
		}
		this.#queue.add(REST, AT_ONCE, true);
	}

	/** A snapshot of a pool's source; unknown pools are ignored. */
	offer(pool: string, snapshot: Snapshot): void {
		const record = this.#pools.get(pool);
		if (record === undefined) return;
		record.cause = { revision: snapshot.revision, at: Math.min(record.cause?.at ?? snapshot.observedAt, snapshot.observedAt) };
		record.guard.offer(snapshot);
		// What changes nothing takes no time either.
		if (!record.isDirty) record.cause = null;
	}

	/** Resolves when every configured pool was answered and reconciled, or failed. */
	whenSettled(): Promise<void> {
		return new Promise((resolve) => {
			this.#settled.push(resolve);
			this.#announceSettled();
		});
	}

	/** Env.now() at which the round that runs began; null between rounds. */
	get roundSince(): number | null {
		return this.#roundSince;
	}

	status(): ReconcileStatus {
		const actual = this.#opts.datapath.actual();
		const names = [...this.#pools.keys()].sort();
		return {
			pools: names.flatMap((name) => this.#statusOf(name, actual) ?? []),
			vips: [...actual.vips.values()],
			waitingVips: [...this.#waitingVips].map(([vip, reason]) => ({ vip, reason })),
			error: this.#rest.message,
			applied: this.#applied,
			swaps: this.#swaps,
		};
	}

	/** Of one pool; undefined when the configuration has none of that name. */
	poolStatus(name: string): PoolStatus | undefined {
		return this.#statusOf(name, this.#opts.datapath.actual());
	}

	#statusOf(name: string, actual: ActualState): PoolStatus | undefined {
		const record = this.#pools.get(name);
		const { env, sourceState } = this.#opts;
		return record && poolStatus(record, actual.pools.get(name), this.#limits.ringSize, sourceState(record.settings.source), env);
	}

	/** Stops; the round that runs is finished first. What the maps hold stays. */
	async close(): Promise<void> {
		await this.#queue.close();
		this.#rest.close();
		for (const record of this.#pools.values()) closeRecord(record);
	}

	#newRecord(settings: PoolSettings, all: Settings, adopted: Iterable<Backend>): PoolRecord {
		const { env, logger, sourceState } = this.#opts;
		const guard = new PoolGuard({
			pool: settings.name,
			env,
			logger,
			rules: { policy: settings.guard, admission: all.admission },
			adopted,
			isSourceUp: () => sourceState(record.settings.source) === 'up',
			onChange: (urgent) => this.#dirty(record, urgent),
		});
		const record: PoolRecord = {
			settings,
			guard,
			isDirty: false,
			isSettled: false,
			cause: null,
			failure: new Failure({ env, logger: logger.child({ pool: settings.name }), again: () => this.#dirty(record, true) }),
			lastChange: null,
		};
		return record;
	}

	#reconfigure(record: PoolRecord, settings: PoolSettings, all: Settings): void {
		const before = record.settings;
		record.settings = settings;
		if (before.source !== settings.source || before.query !== settings.query) record.guard.expectOtherService();
		record.guard.configure({ policy: settings.guard, admission: all.admission });
		if (before.hash !== settings.hash || before.encap !== settings.encap) this.#dirty(record, true);
	}

	#forget(name: string): void {
		const record = this.#pools.get(name);
		if (record === undefined) return;
		closeRecord(record);
		this.#pools.delete(name);
		this.#queue.drop(name);
	}

	#dirty(record: PoolRecord, urgent: boolean): void {
		record.isDirty = true;
		record.cause ??= { revision: record.guard.snapshot?.revision ?? '', at: this.#opts.env.now() };
		this.#queue.add(record.settings.name, record.settings.debounce, urgent);
	}

	async #round(keys: ReadonlySet<string>): Promise<void> {
		const records = [...keys].flatMap((key) => this.#pools.get(key) ?? []);
		const causes = new Map(records.map((r) => [r, r.cause] as const));
		for (const record of records) {
			record.isDirty = false;
			record.cause = null;
		}
		this.#roundSince = this.#opts.env.now();
		try {
			const { changes, applied } = await this.#reconcile(keys);
			const byPool = changesByPool(changes);
			const swaps = new Map(applied.swaps.map((s) => [s.pool, s]));
			for (const record of records) {
				const name = record.settings.name;
				record.isSettled ||= record.guard.snapshot !== null;
				if (applied.failed.has(name)) record.failure.failed(applied.failed.get(name));
				else
					this.#succeed(
						record,
						byPool.get(name) ?? [],
						{ ...applied, swap: swaps.get(name), isOneOfMany: keys.size > LOGGED },
						causes.get(record) ?? null,
					);
			}
			if (applied.error === undefined) this.#rest.succeeded();
			else this.#rest.failed(applied.error);
		} catch (error) {
			for (const record of records) record.failure.failed(error);
			this.#rest.failed(error);
		}
		this.#roundSince = null;
		this.#announceSettled();
	}

	async #reconcile(keys: ReadonlySet<string>): Promise<{ changes: Change[]; applied: Applied & { startedAt: number } }> {
		const { datapath, env, logger } = this.#opts;
		const actual = datapath.actual();
		const serverIds = this.#serverIds;
		const desired = desiredState([...this.#pools.values()].map(desiredPool), this.#vips, serverIds, actual);
		this.#waitingVips = desired.waitingVips;
		const changes = planChanges(desired, actual, keys);
		const startedAt = env.now();
		const applied = await applyChanges(datapath, changes, env);
		if (applied.error === undefined && serverIds === this.#serverIds) this.#serverIds = null;
		const real = changes.filter((c) => c.kind !== 'server-ids' || c.ids.size > 0);
		this.#applied += real.length > 0 ? 1 : 0;
		this.#swaps += applied.swaps.length;
		const shared = applied.error === undefined ? real.filter((c) => poolOf(c) === null || c.kind === 'pool-remove') : [];
		for (const c of shared.slice(0, LOGGED)) logger.info(`applied: ${describeChange(c)}`);
		const figures = { changes: real.length, rings: applied.swaps.length, ms: round(env.now() - startedAt) };
		if (keys.size > LOGGED || shared.length > LOGGED) logger.info(figures, `applied: ${keys.size} pools and ${shared.length} vips`);
		return { changes, applied: { ...applied, startedAt } };
	}

	#succeed(
		record: PoolRecord,
		changes: readonly Change[],
		{ swap, servedAt, startedAt, isOneOfMany }: PoolApplied,
		cause: PoolRecord['cause'],
	): void {
		const { env, logger } = this.#opts;
		const pool = record.settings.name;
		record.failure.succeeded();
		if (changes.length === 0) return;
		const figures = {
			revision: cause?.revision ?? record.guard.snapshot?.revision ?? '',
			latencyMs: round(servedAt - (cause?.at ?? startedAt)),
			applyMs: round(servedAt - startedAt),
			moved: swap?.moved ?? null,
			unavoidable: swap?.unavoidable ?? null,
		};
		const summary = summarize(changes);
		record.lastChange = { ...figures, at: env.wallNow() - round(env.now() - servedAt), summary };
		const serving = [...record.guard.belief.members.values()].filter(isServing).length;
		logger[isOneOfMany ? 'debug' : 'info']({ pool, ...figures, generation: swap?.generation, serving }, `applied: ${summary}`);
	}

	#announceSettled(): void {
		if (this.#settled.length === 0 || this.#settings === undefined) return;
		if (![...this.#pools.values()].every((r) => r.isSettled)) return;
		const waiting = this.#settled;
		this.#settled = [];
		for (const resolve of waiting) resolve();
	}
}

function desiredPool({ settings, guard }: PoolRecord): DesiredPool {
	return { name: settings.name, source: settings.source, hash: settings.hash, encap: settings.encap, backends: guard.desired() };
}

function closeRecord(record: PoolRecord): void {
	record.guard.close();
	record.failure.close();
}

function serverIdRows({ serverIds }: Settings): unknown {
	return serverIds === null ? null : [serverIds.encap, [...serverIds.ids]];
}

/** Milliseconds to a tenth: what a clock of this kind can tell. */
function round(ms: number): number {
	return Math.round(ms * 10) / 10;
}
