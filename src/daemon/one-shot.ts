// SPDX-License-Identifier: Apache-2.0
// Reads every source once and says what should be: for `plan` and `simulate`, which neither watch nor keep anything.
// The answers pass the same guard as the daemon's, judged against what is there.
import type { Config } from '../config/schema.ts';
import type { ActualState } from '../datapath/datapath.ts';
import type { Env } from '../env.ts';
import { messageOf } from '../errors.ts';
import type { OwnAddress } from '../guard/deny.ts';
import { PoolGuard } from '../guard/pool-guard.ts';
import type { Logger } from '../log.ts';
import type { RejectedInstance } from '../model/snapshot.ts';
import { type Desired, type DesiredPool, desiredState, vipsByKey } from '../reconcile/desired.ts';
import type { PoolSettings, Settings } from '../reconcile/settings.ts';
import type { Source } from '../sources/source.ts';
import { queryOf, settingsOf } from './settings.ts';

export interface ReadOptions {
	readonly config: Config;
	readonly sources: ReadonlyMap<string, Source>;
	/** Addresses of this host; none for a simulation. */
	readonly own: readonly OwnAddress[];
	/** What the data plane holds; NOTHING_YET where there is none. */
	readonly actual: ActualState;
	readonly env: Env;
	readonly logger: Logger;
	/** Ends the reading; pools that were not read by then are `unanswered`. */
	readonly signal: AbortSignal;
}

export interface ReadPool {
	readonly name: string;
	readonly revision: string | null;
	readonly rejected: readonly RejectedInstance[];
	/** Why the guard keeps what the registry no longer lists. */
	readonly hold: string | null;
	/** Why its source could not be read; it is left as it is. */
	readonly error: string | null;
}

export interface ReadState {
	readonly desired: Desired;
	/** In the order of the configuration. */
	readonly pools: readonly ReadPool[];
}

export const NOTHING_YET: ActualState = { pools: new Map(), vips: new Map() };

/** @throws XdpilotError E_CONFIG as settingsOf does; a source that can't be read is in the result */
export async function readDesired(opts: ReadOptions): Promise<ReadState> {
	const settings = settingsOf(opts.config, opts.own);
	const read = await Promise.all([...settings.pools.values()].map((pool) => readPool(opts, settings, pool)));
	const desired = desiredState(
		read.map((r) => r.desired),
		vipsByKey(settings.vips),
		settings.serverIds,
		opts.actual,
	);
	return { desired, pools: read.map((r) => r.pool) };
}

async function readPool(opts: ReadOptions, all: Settings, settings: PoolSettings): Promise<{ desired: DesiredPool; pool: ReadPool }> {
	const { name } = settings;
	const guard = new PoolGuard({
		pool: name,
		env: opts.env,
		logger: opts.logger,
		rules: { policy: settings.guard, admission: all.admission },
		adopted: opts.actual.pools.get(name)?.backends.values() ?? [],
		isSourceUp: () => true,
		onChange: () => undefined,
	});
	const error = await offerOnce(opts, settings, guard);
	guard.close();
	const { source, hash, encap } = settings;
	const { rejected, hold } = guard.belief;
	return {
		desired: { name, source, hash, encap, backends: guard.desired() },
		pool: { name, revision: guard.snapshot?.revision ?? null, rejected, hold: hold?.reason ?? null, error },
	};
}

async function offerOnce(opts: ReadOptions, { name, source: sourceName }: PoolSettings, guard: PoolGuard): Promise<string | null> {
	const source = opts.sources.get(sourceName);
	const pool = opts.config.pools.get(name);
	if (source === undefined || pool === undefined) return `there is no source ${sourceName}`;
	try {
		guard.offer(await source.read(queryOf(pool), opts.signal));
		return null;
	} catch (e) {
		return messageOf(e);
	}
}
