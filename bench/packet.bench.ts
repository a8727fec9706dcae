// SPDX-License-Identifier: Apache-2.0
// What one packet costs: the program against floors that take the same way through the kernel, by BPF_PROG_TEST_RUN of
// a wrapper that restores the packet before each repeat. A row counts only if the program's own counters say that
// every packet took the way that the row is about.
import { cpuUsage } from 'node:process';
import { type Address, address, addressBytes } from '../src/model/address.ts';
import type { BpfProgram } from '../src/native/addon.d.ts';
import { loadNative } from '../src/native/binding.ts';
import { LbInstance, type LbVip, SMALL } from '../test/support/lb-instance.ts';
import { flowFrame, TCP } from '../test/support/packet-builder.ts';
import { whyNoBpf } from '../test/support/privileged.ts';
import { type Rotation, TailCaller } from '../test/support/tail-caller.ts';
import { type Bench, type BenchRow, runAlone, stats } from './bench.ts';
import { pinned } from './pinned.ts';

const ROUNDS = 25;
const PACKETS = 300_000;
const FLOWS = 65_536;
/** Four entries for each flow, the default ratio. */
const FLOW_ENTRIES = 4 * FLOWS;
const ALL_FLOWS = 2 ** 32;
const MANY_VIPS = 64;
const FIRST_OF_MANY = '10.201.0.0';

const VIP4 = { address: '10.200.1.1', port: 80, pool: 1 } as const;
const VIP6 = { address: 'fc00:1::1', port: 80, pool: 2 } as const;
const VIP4_UNREMEMBERED = { address: '10.200.1.2', port: 80, pool: 1, flags: ['no_flow_table'] } as const;
const VIP4_BACKEND6 = { address: '10.200.1.3', port: 80, pool: 2 } as const;
const VIP4_UDP = { address: '10.200.1.1', port: 80, pool: 1, protocol: 'udp' } as const;

interface Case {
	readonly what: string;
	readonly goal?: number;
	/** Katran's figure on the machine where the goal was set, for comparison. */
	readonly katran?: string;
	readonly dest: string;
	readonly flags: number | 'udp';
	readonly flows: number;
	readonly vips?: number;
	/** Outer header: what the floor takes. */
	readonly outer: 4 | 6;
	/** The way that every packet must take. */
	readonly way: 'hit' | 'ring' | 'pass';
}

const CASES: readonly Case[] = [
	{ what: 'flow hit, one flow, IPv4', goal: 2.6, katran: '5.5-6.0', dest: VIP4.address, flags: TCP.ack, flows: 1, outer: 4, way: 'hit' },
	{ what: 'flow hit, one flow, IPv6', goal: 3.2, katran: '5.5-6.4', dest: VIP6.address, flags: TCP.ack, flows: 1, outer: 6, way: 'hit' },
	{ what: 'flow hit, 64k flows, IPv4', goal: 6, katran: '11.5', dest: VIP4.address, flags: TCP.ack, flows: FLOWS, outer: 4, way: 'hit' },
	{ what: 'flow hit, 64k flows, IPv6', goal: 6.5, katran: '12.5', dest: VIP6.address, flags: TCP.ack, flows: FLOWS, outer: 6, way: 'hit' },
	{
		what: 'new flow on every packet (SYN)',
		goal: 9,
		katran: '47',
		dest: VIP4.address,
		flags: TCP.syn,
		flows: ALL_FLOWS,
		outer: 4,
		way: 'ring',
	},
	{ what: 'new flow on every packet (ACK)', dest: VIP4.address, flags: TCP.ack, flows: ALL_FLOWS, outer: 4, way: 'ring' },
	{
		what: 'no flow table, 64k flows',
		goal: 3,
		katran: '5.6-6.2',
		dest: VIP4_UNREMEMBERED.address,
		flags: TCP.ack,
		flows: FLOWS,
		outer: 4,
		way: 'ring',
	},
	{ what: 'not a vip (pass), IPv4', goal: 1.5, katran: '2.3-2.5', dest: '10.250.0.1', flags: TCP.ack, flows: 1, outer: 4, way: 'pass' },
	{ what: 'not a vip (pass), IPv6', dest: 'fc00:9::1', flags: TCP.ack, flows: 1, outer: 6, way: 'pass' },
	{
		what: '64 vips with 64k flows',
		goal: 7,
		katran: '12',
		dest: FIRST_OF_MANY,
		flags: TCP.ack,
		flows: FLOWS,
		vips: MANY_VIPS,
		outer: 4,
		way: 'hit',
	},
	{ what: 'flow hit, one flow, UDP', dest: VIP4_UDP.address, flags: 'udp', flows: 1, outer: 4, way: 'hit' },
	{ what: 'flow hit, one flow, IPv4 in IPv6', dest: VIP4_BACKEND6.address, flags: TCP.ack, flows: 1, outer: 6, way: 'hit' },
];

/** Ten backends of each family behind every vip. */
function makeInstance(): LbInstance {
	const native = loadNative();
	const limits = { ...SMALL.limits, maxBackendsPerPool: 4096, maxPools: 512, maxBackends: 4096, maxVips: 512 };
	const lb = new LbInstance(native, { options: { limits, flowEntries: FLOW_ENTRIES } });
	const ids4 = Array.from({ length: 10 }, (_, i) => i + 1);
	const ids6 = ids4.map((id) => id + 10);
	for (const id of ids4) lb.setBackend(id, `10.0.0.${id}`);
	for (const id of ids6) lb.setBackend(id, `fc00::${id}`);
	lb.setRing(VIP4.pool, ids4, spread);
	lb.setRing(VIP6.pool, ids6, spread);
	const many: LbVip[] = Array.from({ length: MANY_VIPS }, (_, i) => {
		lb.setRing(10 + i, ids4, spread);
		return { address: `10.201.0.${i}`, port: 80, pool: 10 + i };
	});
	lb.setVips([VIP4, VIP6, VIP4_UNREMEMBERED, VIP4_BACKEND6, VIP4_UDP, ...many]);
	return lb;
}

/** Ranks in no order, as a Maglev ring has them (Knuth's multiplicative hash). */
function spread(slot: number): number {
	return (Math.imul(slot, 2654435761) >>> 8) % 10;
}

/**
 * Nanoseconds a packet: CPU time of this process, which other processes on the CPU don't lengthen. (The kernel's own
 * figure leaves them out as well, but is a whole number: too coarse for 30 ns.)
 */
function time(tail: TailCaller, program: BpfProgram, frame: Uint8Array, packets: number): number {
	tail.setTarget(program);
	const before = cpuUsage();
	tail.program('wrap').testRun(frame, { repeat: packets });
	const { user, system } = cpuUsage(before);
	return (1000 * (user + system)) / packets;
}

interface Ways {
	readonly hit: number;
	readonly ring: number;
	readonly pass: number;
}

function ways(lb: LbInstance): Ways {
	let [packets, ring] = [0, 0];
	for (let vip = 1; vip <= lb.options.limits.maxVips; vip++) {
		const c = lb.counters.vip(vip);
		packets += Number(c.packets);
		ring += Number(c.newFlows);
	}
	return { hit: packets - ring, ring, pass: Number(lb.counters.global().pass) };
}

/** A thousandth may stray: a timer tick may let an entry be replaced. */
const STRAY = 0.001;

function assertWay(c: Case, before: Ways, after: Ways, packets: number): void {
	const share = (after[c.way] - before[c.way]) / packets;
	if (Math.abs(share - 1) > STRAY) throw new Error(`${c.what}: ${(100 * share).toFixed(2)} % of the packets took the way "${c.way}"`);
}

function measure(c: Case, lb: LbInstance, tail: TailCaller): BenchRow {
	const source = address(c.dest.includes(':') ? 'fc00:2::1' : '192.168.1.1');
	const frame = flowFrame({ source, dest: address(c.dest), sourcePort: 31337, destPort: 80, flags: c.flags });
	tail.setFrame(frame, c.flows === 1 ? undefined : rotation(c));
	const adjust = tail.program(c.outer === 6 ? 'floor_adjust6' : 'floor_adjust4');
	lb.clearFlows();
	for (const program of [adjust, lb.program]) time(tail, program, frame, 2 * FLOWS);
	const ratios: number[] = [];
	const times: number[] = [];
	for (let round = 0; round < ROUNDS; round++) {
		const order = round % 2 ? [lb.program, adjust] : [adjust, lb.program];
		const ns = new Map<BpfProgram, number>();
		for (const program of order) {
			if (c.flows <= FLOWS) tail.rewind();
			const before = ways(lb);
			ns.set(program, time(tail, program, frame, PACKETS));
			if (program === lb.program) assertWay(c, before, ways(lb), PACKETS);
		}
		const own = ns.get(lb.program) ?? 0;
		times.push(own);
		ratios.push(own / (ns.get(adjust) ?? Number.NaN));
	}
	const ratio = stats(ratios);
	const goal = c.goal === undefined ? {} : { goal: `<= ${c.goal}`, met: ratio.median <= c.goal };
	const extra = { 'ns a packet': stats(times).median.toFixed(0), Katran: c.katran ?? '' };
	return { what: c.what, ...goal, unit: 'x floor', ...ratio, extra };
}

function rotation(c: Case): Rotation {
	const vips = c.vips === undefined ? {} : { vips: { first: addressBytes(FIRST_OF_MANY as Address), count: c.vips } };
	return { flows: c.flows, base: CASES.indexOf(c) * 1_000_003, ...vips };
}

export const bench: Bench = {
	name: 'packet',
	async run(progress) {
		const reason = whyNoBpf();
		if (reason !== undefined) throw new Error(reason);
		const lb = makeInstance();
		const tail = new TailCaller(loadNative());
		try {
			return await pinned(async (where) => {
				const rows: BenchRow[] = [];
				for (const c of CASES) {
					const row = measure(c, lb, tail);
					progress(`${row.what}: ${row.median.toFixed(2)} (${row.goal ?? 'no goal'})`);
					rows.push(row);
				}
				return {
					title: 'Cost of a packet',
					method: method(where),
					extra: ['ns a packet', 'Katran'],
					rows,
					remarks:
						'The column *Katran* holds the figures of its own program (IPIP build) by the same method on the machine where the goals were set.',
				};
			});
		} finally {
			tail.close();
			lb.close();
		}
	},
};

function method(where: string): string {
	return `A wrapper program restores the frame (54 bytes for IPv4, 74 for IPv6), sets the flow of this repeat and tail-calls the program; BPF_PROG_TEST_RUN
repeats the wrapper ${PACKETS.toLocaleString('en')} times. *Floor* is a program in the same place that moves the head by the outer header and sends.
Each of ${ROUNDS} rounds runs both, in alternating order, ${where}; a ratio is taken within a round. Flows differ by a bijective scramble of their source
address; the flow table has ${FLOW_ENTRIES.toLocaleString('en')} entries. The program's counters confirm for every round that each packet took the way of its row. Not in the
figures: driver, DMA, and packets that are cold in the cache; they are the same for every program.`;
}

await runAlone(bench, import.meta);
