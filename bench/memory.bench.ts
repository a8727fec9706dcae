// SPDX-License-Identifier: Apache-2.0
// What the data plane locks in kernel memory at load, as the kernel itself accounts it (`memlock` in fdinfo): every map
// but the flow table, with 512 vips that have a pool and a ring each.
import { readFileSync } from 'node:fs';
import { DEFAULT_LIMITS } from '../src/datapath/options.ts';
import type { BpfMap } from '../src/native/addon.d.ts';
import { loadNative } from '../src/native/binding.ts';
import { LbInstance } from '../test/support/lb-instance.ts';
import { whyNoBpf } from '../test/support/privileged.ts';
import { type Bench, type BenchRow, runAlone } from './bench.ts';

const VIPS = 512;
const MIB = 2 ** 20;
const GOAL_MIB = 80;
/** Katran locks this for 512 vips, whatever is configured. */
const KATRAN_MIB = 385;

/** The limits that Katran has, and this project's defaults. */
const LIMITS = {
	'512 vips, pools and rings; 4096 backends': { ...DEFAULT_LIMITS, maxVips: VIPS, maxPools: VIPS, maxBackends: 4096 },
	'the same with room for 4096 vips and pools, 32768 backends': DEFAULT_LIMITS,
} as const;

function lockedBytes(map: BpfMap): number {
	const match = /^memlock:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${map.fd}`, 'utf8'));
	if (match === null) throw new Error('the kernel accounts no memory for maps');
	return Number(match[1]);
}

function measure(what: string, limits: (typeof LIMITS)[keyof typeof LIMITS], goal: number | null): BenchRow {
	const lb = new LbInstance(loadNative(), { options: { limits } });
	try {
		lb.setVips(Array.from({ length: VIPS }, (_, i) => ({ address: `10.${200 + (i >> 8)}.${i & 255}.1`, port: 80, pool: i + 1 })));
		lb.setBackend(1, '10.0.0.1');
		let rings = 0;
		for (let pool = 1; pool <= VIPS; pool++) rings += lockedBytes(lb.setRing(pool, [1], () => 0));
		const others = Object.entries(lb.maps).filter(([name]) => name !== 'flows');
		const total = (rings + others.reduce((sum, [, map]) => sum + lockedBytes(map), 0)) / MIB;
		return {
			what,
			...(goal === null ? {} : { goal: `<= ${goal}`, met: total <= goal }),
			unit: 'MiB',
			n: 1,
			median: total,
			p99: total,
			digits: 1,
			extra: { 'of which rings': (rings / MIB).toFixed(1) },
		};
	} finally {
		lb.close();
	}
}

export const bench: Bench = {
	name: 'memory',
	async run(progress) {
		const reason = whyNoBpf();
		if (reason !== undefined) throw new Error(reason);
		const rows = Object.entries(LIMITS).map(([what, limits], i) => measure(what, limits, i === 0 ? GOAL_MIB : null));
		for (const r of rows) progress(`${r.what}: ${r.median.toFixed(1)} MiB`);
		return {
			title: 'Locked memory',
			method: `Sum of the \`memlock\` figures that the kernel gives for the maps at load, without the flow table (16 bytes an entry: 15.3 MiB a million). A ring has
65,537 slots and room for 4096 backends. Katran locks ${KATRAN_MIB} MiB before its flow table.`,
			extra: ['of which rings'],
			rows,
		};
	},
};

await runAlone(bench, import.meta);
