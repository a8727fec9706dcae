// SPDX-License-Identifier: Apache-2.0
// A reconciler on a fake datapath and a virtual clock, with sources that answer when a test says so.
import type { Datapath } from '../../src/datapath/datapath.ts';
import { silentLogger } from '../../src/log.ts';
import type { Snapshot } from '../../src/model/snapshot.ts';
import type { Vip } from '../../src/model/vip.ts';
import { Reconciler } from '../../src/reconcile/reconciler.ts';
import type { PoolSettings, Settings } from '../../src/reconcile/settings.ts';
import type { SourceState } from '../../src/sources/source.ts';
import { vipOf } from './desired-states.ts';
import { FakeDatapath } from './fake-datapath.ts';
import { admission, POLICY, snapshot } from './snapshots.ts';
import { VirtualEnv } from './virtual-env.ts';

export function settingsOf(pools: readonly (string | PoolSettings)[], vips?: readonly Vip[], over: Partial<Settings> = {}): Settings {
	const all = pools.map((p) => (typeof p === 'string' ? poolSettings(p) : p));
	return {
		pools: new Map(all.map((p) => [p.name, p])),
		vips: vips ?? all.map((p, i) => vipOf(i + 1, p.name)),
		serverIds: null,
		admission: admission(),
		...over,
	};
}

export function poolSettings(name: string, over: Partial<PoolSettings> = {}): PoolSettings {
	return {
		name,
		source: 'registry',
		service: name,
		query: `registry ${name}`,
		hash: 'maglev-v2',
		encap: 'ipip',
		guard: POLICY,
		debounce: { quiet: 50, max: 500 },
		...over,
	};
}

export interface Bench {
	readonly env: VirtualEnv;
	readonly fake: FakeDatapath;
	readonly reconciler: Reconciler;
	/** State of every source; "up" at first. */
	sourceState: SourceState;
	/** Offers a snapshot that has just arrived. */
	answer(pool: string, ...args: Parameters<typeof snapshot>): void;
	/** Pool states as `web ok`. */
	states(): string[];
}

/** `datapath`: what the reconciler writes to, when it isn't `fake` itself. */
export function reconciling(settings: Settings, parts: { env?: VirtualEnv; fake?: FakeDatapath; datapath?: Datapath } = {}): Bench {
	const env = parts.env ?? new VirtualEnv();
	const fake = parts.fake ?? new FakeDatapath({ env, limits: { ringSize: 101 } });
	const reconciler = new Reconciler({
		env,
		logger: silentLogger(),
		datapath: parts.datapath ?? fake,
		sourceState: () => bench.sourceState,
	});
	const bench: Bench = {
		env,
		fake,
		reconciler,
		sourceState: 'up',
		answer: (pool, ...args) => reconciler.offer(pool, { observedAt: env.now(), ...withoutTime(snapshot(...args)) }),
		states: () => reconciler.status().pools.map((p) => `${p.name} ${p.state}`),
	};
	reconciler.configure(settings);
	return bench;
}

function withoutTime({ observedAt: _, ...rest }: Snapshot): Omit<Snapshot, 'observedAt'> {
	return rest;
}
