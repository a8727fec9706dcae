// SPDX-License-Identifier: Apache-2.0
// The balancer's program on maps of its own, attached to nothing: packet tests and benchmarks put vips, backends, rings
// of any content and flow-table entries into it and run frames through it. Needs root and the native addon.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import {
	FLOW_BUCKET_SIZE,
	LB_DROP_NAMES,
	type LbConfig,
	RING_HEAD_SIZE,
	VIP_COUNTER_OFFSET,
	VIP_COUNTER_SIZE,
} from '../../src/datapath/abi.gen.ts';
import { BackendTable } from '../../src/datapath/backend-table.ts';
import { Counters } from '../../src/datapath/counters.ts';
import { closeMaps, type EntryPoint, LB_OBJECT, type Loaded, loadProgram, type Maps, readObject } from '../../src/datapath/loader.ts';
import { type DatapathOptions, DEFAULT_OPTIONS, mapEntries, programConfig, ringBytes, vipBits } from '../../src/datapath/options.ts';
import { newInnerMap } from '../../src/datapath/ring-store.ts';
import { isPrefixRow, VipPrefixes } from '../../src/datapath/vip-prefixes.ts';
import { rowOf, VipTable } from '../../src/datapath/vip-table.ts';
import { type Address, address, parsePrefix } from '../../src/model/address.ts';
import type { BackendState } from '../../src/model/backend.ts';
import type { Encap } from '../../src/model/pool.ts';
import type { Protocol, VipFlag } from '../../src/model/vip.ts';
import type { BpfMap } from '../../src/native/addon.d.ts';
import type { NativeAddon } from '../../src/native/binding.ts';

const VIP_COUNTER_WORDS = VIP_COUNTER_SIZE / 8;
export const GATEWAY_MAC = Uint8Array.of(0x00, 0x00, 0xde, 0xad, 0xbe, 0xaf);
export const VERDICTS = ['aborted', 'drop', 'pass', 'tx', 'redirect'] as const;
export type Verdict = (typeof VERDICTS)[number];

export interface LbVip {
	readonly address: string;
	readonly port: number;
	readonly protocol?: Protocol;
	readonly pool: number;
	readonly flags?: readonly VipFlag[];
}

export interface LbRun {
	readonly verdict: Verdict;
	readonly out: Uint8Array;
	/** Name of the drop reason, if the frame was dropped. */
	readonly reason: string | null;
}

/** Small enough that each test loads its own. */
export const SMALL: DatapathOptions = {
	...DEFAULT_OPTIONS,
	limits: { ringSize: 65537, maxBackendsPerPool: 64, maxPools: 16, maxBackends: 64, maxVips: 64 },
	flowEntries: 8 * 64,
	gatewayMac: GATEWAY_MAC,
};

export interface LbSettings {
	readonly options?: Partial<DatapathOptions>;
	/** Replaces constants that no option sets; the flow key is random unless given. */
	readonly config?: Partial<LbConfig>;
	readonly entry?: EntryPoint;
	readonly object?: string;
}

export class LbInstance {
	readonly options: DatapathOptions;
	readonly config: LbConfig;
	readonly counters: Counters;
	readonly backends: BackendTable;
	/** The flow table as 64-bit words, two an entry. */
	readonly flows: BigUint64Array;
	readonly maps: Maps;
	readonly program: Loaded['program'];
	readonly #native: NativeAddon;
	readonly #vips: VipTable;
	readonly #prefixes: VipPrefixes;
	readonly #vipLines: BigUint64Array;
	readonly #rings: BpfMap[] = [];
	#vipRows: LbVip[] = [];

	constructor(native: NativeAddon, settings: LbSettings = {}) {
		const cpus = native.possibleCpus();
		this.#native = native;
		this.options = { ...SMALL, ...settings.options };
		const key = Array.from({ length: 24 }, () => randomBytes(8).readBigUInt64LE() | 1n);
		this.config = { ...programConfig(this.options, { hz: 250, shift: 4 }, key, cpus), ...settings.config };
		const entries = mapEntries(this.options, cpus);
		const object = readObject(settings.object ?? LB_OBJECT);
		const loaded = loadProgram(native, object, settings.entry ?? 'lb', this.config, { entries });
		this.program = loaded.program;
		this.maps = loaded.maps;
		const memory = { vips: this.maps.vip_counters.mmap(), backends: this.maps.backend_counters.mmap(), cpus: this.maps.counters.mmap() };
		this.#vipLines = new BigUint64Array(memory.vips, 0, ((entries.vip_counters ?? 0) * VIP_COUNTER_SIZE) / 8);
		this.counters = new Counters(memory, cpus, { vips: this.config.maxVips, backends: this.config.maxBackends });
		this.backends = new BackendTable(
			this.maps.backends.mmap(),
			entries.backends ?? 0,
			this.options.gatewayMac,
			new Set(this.options.ownAddresses),
		);
		this.flows = new BigUint64Array(this.maps.flows.mmap(), 0, ((entries.flows ?? 0) * FLOW_BUCKET_SIZE) / 8);
		const tables = { control: this.maps.control.mmap(), vips4: this.maps.vips4.mmap(), vips6: this.maps.vips6.mmap() };
		this.#prefixes = new VipPrefixes(this.maps.vip_prefixes);
		this.#vips = new VipTable(tables, vipBits(this.options.limits), () => randomBytes(8).readBigUInt64LE());
	}

	/** Makes these the vips, numbered from 1 in this order. */
	setVips(vips: readonly LbVip[]): void {
		this.#vipRows = [...vips];
		const rows = vips.map((v, i) => {
			const prefix = parsePrefix(v.address) ?? assert.fail(v.address);
			return rowOf({ prefix, port: v.port, protocol: v.protocol ?? 'tcp', pool: '', flags: v.flags ?? [] }, i + 1, v.pool);
		});
		this.#vips.write(rows.filter((row) => !isPrefixRow(row)));
		const prefixes = rows.filter(isPrefixRow);
		this.#prefixes.put(prefixes);
		this.#prefixes.prune(prefixes);
	}

	/** The number of a vip given to setVips(). */
	vipNumber(vip: LbVip): number {
		return this.#vipRows.indexOf(vip) + 1;
	}

	/** A backend of this id; an id that exists changes its state. */
	setBackend(id: number, at: string, state: BackendState = 'active', local = false, encap: Encap = 'ipip'): void {
		const entry = { id, address: address(at), pool: 1, state, encap, local } as const;
		if (this.backends.entry(id)) this.backends.set(entry);
		else this.backends.create(entry);
	}

	/** Swaps in a ring of these ids; `rank` says which of them a slot holds, `n` how many there are said to be. */
	setRing(pool: number, ids: readonly number[], rank: (slot: number) => number = (s) => s % ids.length, n = ids.length): BpfMap {
		const ring = this.newRing(ids, rank, n);
		this.putRing(pool, ring);
		this.#rings.push(ring);
		return ring;
	}

	/** A ring that is in no slot; the caller closes it. */
	newRing(ids: readonly number[], rank: (slot: number) => number, n = ids.length): BpfMap {
		const ring = newInnerMap(this.#native, this.options.limits);
		ring.update(new Uint8Array(4), this.ringValue(ids, rank, n));
		return ring;
	}

	putRing(pool: number, ring: BpfMap): void {
		this.maps.rings.update(u32(pool), u32(ring.fd));
	}

	ringValue(ids: readonly number[], rank: (slot: number) => number, n = ids.length): Uint8Array {
		const { ringSize } = this.options.limits;
		const value = new Uint8Array(ringBytes(this.options.limits));
		new Uint32Array(value.buffer, 0, 2).set([ringSize, n]);
		new Uint16Array(value.buffer, RING_HEAD_SIZE, ringSize).set(Uint16Array.from({ length: ringSize }, (_, slot) => rank(slot)));
		new Uint32Array(value.buffer, RING_HEAD_SIZE + 2 * (ringSize + 1), ids.length).set(ids);
		return value;
	}

	setServerId(id: number, backend: number): void {
		this.maps.server_ids.update(u32(id), u32(backend));
	}

	run(frame: Uint8Array): LbRun {
		const before = this.counters.drops();
		const { verdict, out } = this.program.testRun(frame);
		const after = this.counters.drops();
		const reason = LB_DROP_NAMES.find((name) => after[name] !== before[name]) ?? null;
		return { verdict: VERDICTS[verdict] ?? 'aborted', out, reason };
	}

	/** What `fn` adds to the counters and drops, zeros left out. */
	counted(fn: () => void): Record<string, number> {
		const read = () => ({ ...this.counters.global(), ...prefixed(this.counters.drops()) });
		const before: Record<string, bigint> = read();
		fn();
		const entries = Object.entries(read()).map(([name, value]) => [name, Number(value - (before[name] ?? 0n))] as const);
		return Object.fromEntries(entries.filter(([, n]) => n !== 0));
	}

	/** TCP SYNs of a vip that took the ring. */
	ringSyns(vip: number): bigint {
		let total = 0n;
		for (let line = vip; line < this.#vipLines.length / VIP_COUNTER_WORDS; line += this.config.maxVips) {
			total += this.#vipLines[line * VIP_COUNTER_WORDS + VIP_COUNTER_OFFSET.ringSyn / 8] ?? 0n;
		}
		return total;
	}

	/** Live entries of the flow table. */
	flowEntries(): { readonly vip: number; readonly backend: number; readonly established: boolean; readonly time: number }[] {
		const found = [];
		for (let i = 1; i < this.flows.length; i += 2) {
			const word = this.flows[i] ?? 0n;
			if (word === 0n) continue;
			found.push({
				vip: Number(word & 0xffffn),
				backend: Number((word >> 16n) & 0x7fffffn),
				established: ((word >> 39n) & 1n) === 1n,
				time: Number(word >> 40n),
			});
		}
		return found;
	}

	/** Makes every entry of the flow table older by so many time units. */
	ageFlows(units: number): void {
		for (let i = 1; i < this.flows.length; i += 2) {
			const word = this.flows[i] ?? 0n;
			if (word === 0n) continue;
			const time = (Number(word >> 40n) - units) & 0xffffff;
			this.flows[i] = (word & 0xff_ffff_ffffn) | (BigInt(time) << 40n);
		}
	}

	clearFlows(): void {
		this.flows.fill(0n);
	}

	close(): void {
		for (const ring of this.#rings) ring.close();
		closeMaps(this.maps);
		this.program.close();
	}
}

/** The destination of an outer IP header, as an address. */
export function outerDestination(frame: Uint8Array): Address {
	const v6 = frame[12] === 0x86;
	const bytes = v6 ? frame.subarray(38, 54) : frame.subarray(30, 34);
	return address(
		v6 ? [...Array(8).keys()].map((i) => Buffer.from(bytes.subarray(2 * i, 2 * i + 2)).toString('hex')).join(':') : bytes.join('.'),
	);
}

function prefixed(drops: Record<string, bigint>): Record<string, bigint> {
	return Object.fromEntries(Object.entries(drops).map(([name, value]) => [`drop ${name}`, value]));
}

function u32(value: number): Uint8Array {
	return new Uint8Array(Uint32Array.of(value).buffer);
}
