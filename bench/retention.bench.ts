// SPDX-License-Identifier: Apache-2.0
// How many live flows the flow table forgets, measured on the program itself: a population of flows (and, in half of
// the rows, as many spoofed SYNs) is made by bpf/bench/retain.bpf.c packet by packet; the balancer's counters say how
// many packets of living flows found no entry.
import { fileURLToPath } from 'node:url';
import { address } from '../src/model/address.ts';
import type { BpfMap, BpfProgram } from '../src/native/addon.d.ts';
import { loadNative, type NativeAddon } from '../src/native/binding.ts';
import { LbInstance, SMALL } from '../test/support/lb-instance.ts';
import { flowFrame } from '../test/support/packet-builder.ts';
import { whyNoBpf } from '../test/support/privileged.ts';
import { type Bench, type BenchRow, runAlone } from './bench.ts';

const RETAIN_OBJECT = fileURLToPath(new URL('../build/bpf/retain.bpf.o', import.meta.url));

/** The flows that the table is made for. */
const EXPECTED = 2 ** 17;
/** The default: four entries for each expected flow. */
const ENTRIES = 4 * EXPECTED;
/** Mean packets of a flow. */
const LIFE = 200;
const WARM_UP = 4_000_000;
const PACKETS = 4_000_000;
const BATCH = 500_000;
/** The simulated pace: a million packets of living flows a second, a time unit of 64 ms. */
const PACKETS_A_UNIT = 64_000;
const JIFFY_MS = 4;
const HZ = 250;

/** struct workload: 64-bit words, then 32-bit words, then two arrays of EXPECTED 32-bit words. */
const WORD64 = { random: 0, packets: 1, flowsBegun: 2, spoofed: 3 } as const;
const WORD32 = { ethernet: 8, length: 12, flows: 13, life: 14, skewed: 15, flood: 16 } as const;
const CUMULATIVE_AT = 20 + EXPECTED;

interface Row {
	readonly flood: 0 | 1;
	readonly popularity: 'uniform' | 'zipf 1.0';
	/** Living flows, as a share of the expected ones. */
	readonly load: number;
	/** Percent: what a simulation of the same table, and of the kernel's LRU_HASH, forgot. */
	readonly simulated: number;
	readonly lruHash: number;
}

const row = (flood: 0 | 1, popularity: Row['popularity'], load: number, simulated: number, lruHash: number): Row => ({
	flood,
	popularity,
	load,
	simulated,
	lruHash,
});
const ROWS: readonly Row[] = [
	row(0, 'uniform', 0.5, 0, 0),
	row(0, 'uniform', 0.8, 0, 0.02),
	row(0, 'uniform', 1, 0.01, 8.13),
	row(0, 'zipf 1.0', 0.5, 0, 0),
	row(0, 'zipf 1.0', 0.8, 0, 0.02),
	row(0, 'zipf 1.0', 1, 0, 1.48),
	row(1, 'uniform', 0.5, 0.02, 0.65),
	row(1, 'uniform', 0.8, 0.13, 21.9),
	row(1, 'uniform', 1, 0.36, 34.2),
	row(1, 'zipf 1.0', 0.5, 0.58, 2.63),
	row(1, 'zipf 1.0', 0.8, 1.97, 5.83),
	row(1, 'zipf 1.0', 1, 2.97, 7.48),
];
/** Two runs of one row differ by about this much, in percent. */
const TOLERANCE = 0.1;

class Workload {
	readonly #program: BpfProgram;
	readonly #jumps: BpfMap;
	readonly #words64: BigUint64Array;
	readonly #words32: Uint32Array;
	readonly #frame: Uint8Array;

	constructor(native: NativeAddon, target: BpfProgram) {
		const object = native.BpfObject.open(RETAIN_OBJECT);
		object.load();
		this.#program = object.program('retain');
		const [jumps, bss] = [object.map('target'), object.map('retain.bss')];
		jumps.update(new Uint8Array(4), new Uint8Array(Uint32Array.of(target.fd).buffer));
		const memory = bss.mmap();
		this.#words64 = new BigUint64Array(memory, 0, 4);
		this.#words32 = new Uint32Array(memory, 0, CUMULATIVE_AT + EXPECTED);
		this.#frame = flowFrame({ source: address('192.168.1.1'), dest: address('10.200.1.1'), sourcePort: 31337, destPort: 80 });
		// A PROG_ARRAY empties itself with its last user reference, so this one stays open.
		this.#jumps = jumps;
		bss.close();
		object.close();
	}

	begin({ flood, popularity, load }: Row): void {
		const flows = Math.round(load * EXPECTED);
		this.#words32.fill(0);
		this.#words64[WORD64.random] = 0x9e3779b97f4a7c15n;
		new Uint8Array(this.#words32.buffer, 4 * WORD32.ethernet, 14).set(this.#frame.subarray(0, 14));
		this.#words32[WORD32.length] = this.#frame.length;
		this.#words32[WORD32.flows] = flows;
		this.#words32[WORD32.life] = LIFE;
		this.#words32[WORD32.skewed] = popularity === 'uniform' ? 0 : 1;
		this.#words32[WORD32.flood] = flood;
		let harmonic = 0;
		for (let i = 1; i <= flows; i++) harmonic += 1 / i;
		let sum = 0;
		for (let i = 0; i < flows; i++) {
			sum += 1 / (i + 1);
			this.#words32[CUMULATIVE_AT + i] = Math.min(0xffffffff, Math.round((sum / harmonic) * 2 ** 32));
		}
	}

	/** Runs until so many packets were sent, spoofed ones not counted; resolves with nanoseconds a packet of any kind. */
	run(packets: number, flood: 0 | 1): number {
		let total = 0;
		const runs = Math.ceil(packets / BATCH) * (1 + flood);
		for (let i = 0; i < runs; i++) total += this.#program.testRun(this.#frame, { repeat: BATCH }).durationNs;
		return total / runs;
	}

	/** Packets of living flows so far, SYNs not counted. */
	packets(): number {
		return Number(this.#words64[WORD64.packets]);
	}

	close(): void {
		this.#program.close();
		this.#jumps.close();
	}
}

/** The clock's shift under which a unit passes in as many packets as at the simulated pace. */
function clockShift(nanoseconds: number, flood: 0 | 1): number {
	const packetsAJiffy = (JIFFY_MS * 1e6) / nanoseconds / (1 + flood);
	return Math.max(0, Math.round(Math.log2(PACKETS_A_UNIT / packetsAJiffy)));
}

function instance(native: NativeAddon, shift: number): LbInstance {
	const lb = new LbInstance(native, { options: { limits: SMALL.limits, flowEntries: ENTRIES }, config: { clockShift: shift, hz: HZ } });
	lb.setVips([{ address: '10.200.1.1', port: 80, pool: 1 }]);
	lb.setBackend(1, '10.0.0.1');
	lb.setRing(1, [1]);
	return lb;
}

/** Percent of the packets of living flows that found no entry. */
function measure(native: NativeAddon, r: Row, shift: number): { readonly forgotten: number; readonly nanoseconds: number } {
	const lb = instance(native, shift);
	const workload = new Workload(native, lb.program);
	try {
		workload.begin(r);
		workload.run(WARM_UP, r.flood);
		const before = { packets: workload.packets(), missed: missed(lb) };
		const nanoseconds = workload.run(PACKETS, r.flood);
		const packets = workload.packets() - before.packets;
		const sent = (WARM_UP + PACKETS) * (1 + r.flood);
		if (Number(lb.counters.vip(1).packets) !== sent) throw new Error(`of ${sent} packets ${lb.counters.vip(1).packets} were forwarded`);
		return { forgotten: (100 * (missed(lb) - before.missed)) / packets, nanoseconds };
	} finally {
		workload.close();
		lb.close();
	}
}

/** Packets that took the ring and were no SYN. */
function missed(lb: LbInstance): number {
	const c = lb.counters.vip(1);
	return Number(c.newFlows - lb.ringSyns(1));
}

export const bench: Bench = {
	name: 'retention',
	async run(progress) {
		const reason = whyNoBpf();
		if (reason !== undefined) throw new Error(reason);
		const native = loadNative();
		const [first] = ROWS;
		if (first === undefined) throw new Error('no rows');
		const pace = measure(native, first, 0).nanoseconds;
		const rows: BenchRow[] = [];
		for (const r of ROWS) {
			const { forgotten } = measure(native, r, clockShift(pace, r.flood));
			const what = `${r.flood ? 'one spoofed SYN a packet, ' : ''}${r.popularity}, ${100 * r.load} % of the expected flows`;
			progress(`${what}: ${forgotten.toFixed(3)} % (simulated ${r.simulated})`);
			rows.push({
				what,
				goal: `<= ${r.simulated} + ${TOLERANCE}`,
				met: forgotten <= r.simulated + TOLERANCE,
				unit: '% of packets',
				n: PACKETS,
				digits: 3,
				median: forgotten,
				p99: forgotten,
				extra: { 'simulated table': r.simulated.toFixed(2), 'LRU_HASH, one entry a flow': r.lruHash.toFixed(2) },
			});
		}
		return {
			title: 'Live flows forgotten',
			method: `Packets of living flows that find no entry, although their flow began with a SYN that made one. ${EXPECTED.toLocaleString('en')} expected flows, a table of
${ENTRIES.toLocaleString('en')} entries in buckets of 8; flows live for ${LIFE} packets on average, dead ones stay as garbage. ${PACKETS.toLocaleString('en')} packets after a warm-up of as many, through the
real program, with the clock's unit chosen so that as many packets fall into it as at a million a second. One run a row.`,
			extra: ['simulated table', 'LRU_HASH, one entry a flow'],
			rows,
			remarks: `A forgotten flow takes the ring and is remembered again; it moves only if the ring changed meanwhile. The *simulated table* is the design
goal; the column *LRU_HASH* is the kernel's own table with one entry for each expected flow, which takes twice the memory of four entries here.`,
		};
	},
};

await runAlone(bench, import.meta);
