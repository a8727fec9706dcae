// SPDX-License-Identifier: Apache-2.0
// What a Maglev ring costs: the builder against a textbook loop, both compiled now, timed in one process turn and turn
// about; and through the addon, off the event loop.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { address } from '../src/model/address.ts';
import { loadNative } from '../src/native/binding.ts';
import { nativeRingBuilder, RingFactory } from '../src/ring/ring.ts';
import { type Bench, type BenchRow, runAlone, stats } from './bench.ts';
import { pinned } from './pinned.ts';

const SOURCES = fileURLToPath(new URL('./ring/', import.meta.url));
const NATIVE = fileURLToPath(new URL('../native/', import.meta.url));
const RING_SIZE = 65537;
const GOAL = 0.8;
const ROUNDS = 101;
const SLOW_ROUNDS = 15;
const RINGS_AT_ONCE = 64;
const BATCHES = 9;

interface Case {
	readonly what: string;
	readonly members: number;
	readonly weights: 'equal' | 'mixed' | 'heavy';
	readonly rounds: number;
	readonly goal?: number;
}

const CASES: readonly Case[] = [
	{ what: '100 backends', members: 100, weights: 'equal', rounds: ROUNDS, goal: GOAL },
	{ what: '100 backends, weights 1 to 10', members: 100, weights: 'mixed', rounds: ROUNDS },
	{ what: '3 backends', members: 3, weights: 'equal', rounds: ROUNDS },
	{ what: '4096 backends', members: 4096, weights: 'equal', rounds: ROUNDS },
	{ what: '4096 backends, one of weight 65535', members: 4096, weights: 'heavy', rounds: SLOW_ROUNDS },
];

function compile(dir: string): string {
	const harness = join(dir, 'harness');
	const textbook = join(dir, 'textbook.o');
	execFileSync('gcc', ['-O2', '-Wall', '-Wextra', '-c', join(SOURCES, 'textbook.c'), '-o', textbook]);
	const units = [join(SOURCES, 'harness.cc'), join(NATIVE, 'maglev.cc'), textbook];
	execFileSync('g++', ['-O2', '-std=c++17', '-Wall', '-Wextra', '-I', NATIVE, ...units, '-o', harness]);
	return harness;
}

function measure(harness: string, c: Case): BenchRow {
	const out = execFileSync(harness, [String(c.members), c.weights, String(c.rounds)], { encoding: 'utf8' });
	const pairs = out
		.trim()
		.split('\n')
		.map((line) => line.split(' ').map(Number) as [number, number]);
	const ratio = stats(pairs.map(([textbook, ours]) => ours / textbook));
	const [textbook, ours] = [0, 1].map((i) => stats(pairs.map((p) => (p[i] ?? 0) / 1000)).median.toFixed(2)) as [string, string];
	return {
		what: c.what,
		unit: 'ratio',
		digits: 3,
		...ratio,
		...(c.goal === undefined ? {} : { goal: `<= ${c.goal}`, met: ratio.median <= c.goal }),
		extra: { 'builder, ms': ours, 'textbook, ms': textbook },
	};
}

/** What a caller waits for: rings of 100 backends from their specs, digests included. */
async function throughAddon(): Promise<BenchRow> {
	const factory = new RingFactory(nativeRingBuilder(loadNative()), RING_SIZE);
	const specs = Array.from({ length: RINGS_AT_ONCE }, (_, pool) => ({
		pool: `p${pool}`,
		hash: 'maglev-v2' as const,
		members: Array.from({ length: 100 }, (_, i) => ({ address: address(`10.${pool}.0.${i}`), weight: 1 })),
	}));
	await factory.build(specs); // so that the hashes of the addresses are known, as they are at every change but the first
	const samples: number[] = [];
	for (let i = 0; i < BATCHES; i++) {
		const start = performance.now();
		await factory.build(specs);
		samples.push((performance.now() - start) / RINGS_AT_ONCE);
	}
	const extra = { 'builder, ms': '', 'textbook, ms': '' };
	return { what: `${RINGS_AT_ONCE} rings of 100 through the addon, each with its digest`, unit: 'ms a ring', ...stats(samples), extra };
}

export const bench: Bench = {
	name: 'ring',
	async run(progress) {
		const dir = mkdtempSync(join(tmpdir(), 'xdpilot-bench-ring-'));
		try {
			const harness = compile(dir);
			const rows = await pinned(async () =>
				CASES.map((c) => {
					progress(c.what);
					return measure(harness, c);
				}),
			);
			return {
				title: 'Maglev rings',
				method: `${RING_SIZE} slots, version 2. The ratio is that of the builder to a textbook loop (bench/ring/textbook.c), both compiled
with -O2 in this run, timed in one process turn and turn about; every slot is compared. The last row is wall time from
specs to rings and digests on ${availableParallelism()} CPUs, hashes of addresses already known.`,
				extra: ['builder, ms', 'textbook, ms'],
				rows: [...rows, await throughAddon()],
			};
		} finally {
			rmSync(dir, { recursive: true, force: true });
		}
	},
};

await runAlone(bench, import.meta);
