// SPDX-License-Identifier: Apache-2.0
// What it takes to give thousands of pools new rings: inner maps created, filled and swapped in by the code that the
// daemon uses, the rings themselves given. The outer map is a private one; no program reads it.

import { MAPS } from '../src/datapath/abi.gen.ts';
import { DEFAULT_LIMITS } from '../src/datapath/options.ts';
import { OuterMap } from '../src/datapath/outer-map.ts';
import { newInnerMap, RingStore, type RingWrite } from '../src/datapath/ring-store.ts';
import { systemEnv } from '../src/env.ts';
import { address } from '../src/model/address.ts';
import type { BpfMap } from '../src/native/addon.d.ts';
import { loadNative, type NativeAddon } from '../src/native/binding.ts';
import { nativeRingBuilder, type Ring, RingFactory } from '../src/ring/ring.ts';
import { type Bench, type BenchRow, runAlone, stats } from './bench.ts';

const POOLS = 4096;
const GOAL_MS = 500;
const SCRATCH = 2;
const MEMBERS = 8;
const DISTINCT_RINGS = 16;

/** [pools of one swap, samples] */
const CASES: readonly [number, number][] = [
	[1, 50],
	[64, 25],
	[POOLS, 7],
];

async function someRings(native: NativeAddon): Promise<Ring[]> {
	const specs = Array.from({ length: DISTINCT_RINGS }, (_, pool) => ({
		pool: `p${pool}`,
		hash: 'maglev-v2' as const,
		members: Array.from({ length: MEMBERS }, (_, i) => ({ address: address(`10.${pool}.0.${i}`), weight: 1 })),
	}));
	return new RingFactory(nativeRingBuilder(native), DEFAULT_LIMITS.ringSize).build(specs);
}

function outerMap(native: NativeAddon, inner: BpfMap): BpfMap {
	const { type, keySize, valueSize, flags } = MAPS.rings;
	return native.BpfMap.create({ name: 'bench_rings', type, keySize, valueSize, maxEntries: POOLS + SCRATCH, flags, inner });
}

function row(pools: number, samples: readonly number[]): BenchRow {
	const figures = stats(samples);
	const goal = pools === POOLS ? { goal: `<= ${GOAL_MS}`, met: figures.median <= GOAL_MS } : {};
	return { what: `${pools} ring${pools === 1 ? '' : 's'} created, filled and swapped in`, unit: 'ms', digits: 1, ...figures, ...goal };
}

export const bench: Bench = {
	name: 'swap',
	async run(progress) {
		if (process.getuid?.() !== 0) throw new Error('creating BPF maps needs root');
		const native = loadNative();
		const rings = await someRings(native);
		const template = newInnerMap(native, DEFAULT_LIMITS);
		const outer = outerMap(native, template);
		const store = new RingStore(native, new OuterMap(outer, systemEnv, { slot: POOLS, inner: template }), DEFAULT_LIMITS);
		const ids = Array.from({ length: MEMBERS }, (_, i) => i + 1);
		const writes = (pools: number): RingWrite[] =>
			Array.from({ length: pools }, (_, pool) => ({ pool, ring: rings[pool % rings.length] as Ring, ids }));
		try {
			// The first batch is timed by OuterMap itself, to find out how this kernel waits.
			await store.swap(writes(8));
			const rows: BenchRow[] = [];
			for (const [pools, n] of CASES) {
				progress(`${pools} rings`);
				const samples: number[] = [];
				for (let i = 0; i < n; i++) {
					const start = performance.now();
					await store.swap(writes(pools));
					samples.push(performance.now() - start);
				}
				rows.push(row(pools, samples));
			}
			return {
				title: 'Ring swaps',
				method: `${DEFAULT_LIMITS.ringSize} slots, ${DEFAULT_LIMITS.maxBackendsPerPool} backends a pool at most: each ring is one map value. Wall time from
ready rings to the end of the grace period, after which no packet can be reading an old one; packets see each new ring as
soon as it is stored. Nearly all of one ring's time is the wait for that period, and rings of one batch share it.`,
				rows,
			};
		} finally {
			outer.close();
			template.close();
		}
	},
};

await runAlone(bench, import.meta);
