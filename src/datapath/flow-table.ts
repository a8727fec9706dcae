// SPDX-License-Identifier: Apache-2.0
// The flow table from outside: finds the entry of a flow as bpf/flow.h does, counts, and clears entries by
// compare-and-exchange. Packets write it at the same time; nothing here is ever stored by a plain write.
import type { NativeAddon } from '../native/binding.ts';
import { FLOW_BUCKET_SIZE, FLOW_ENTRY_SIZE, FlowLayout } from './abi.gen.ts';
import type { Clock } from './clock.ts';
import type { FlowKey } from './flow-key.ts';

/** What the program was told about the table. */
export interface FlowTableShape {
	/** Of one table. */
	readonly buckets: number;
	/** 1, or the number of CPUs with a table each. */
	readonly tables: number;
	readonly key: readonly bigint[];
}

export interface FoundFlow {
	readonly backend: number;
	/** Time units since a packet of the flow was seen. */
	readonly age: number;
	readonly established: boolean;
}

const WORD = (1n << 64n) - 1n;
const VIP_MASK = 0xffffn;
const BACKEND_SHIFT = BigInt(FlowLayout.FLOW_BACKEND_SHIFT);
const BACKEND_MASK = (1n << BigInt(FlowLayout.FLOW_BACKEND_BITS)) - 1n;
const TIME_SHIFT = BigInt(FlowLayout.FLOW_TIME_SHIFT);
const TIME_MASK = 2 ** FlowLayout.FLOW_TIME_BITS - 1;

export class FlowTable {
	readonly #native: NativeAddon;
	readonly #memory: ArrayBuffer;
	readonly #words: BigUint64Array;
	readonly #shape: FlowTableShape;
	readonly #clock: Clock;

	constructor(native: NativeAddon, memory: ArrayBuffer, shape: FlowTableShape, clock: Clock) {
		this.#native = native;
		this.#memory = memory;
		this.#words = new BigUint64Array(memory);
		this.#shape = shape;
		this.#clock = clock;
	}

	/** The entry of a flow of this vip number; the youngest one where each CPU has a table. */
	find(vip: number, key: FlowKey): FoundFlow | undefined {
		const [bucket, tag] = [this.#bucket(key), this.#tag(key)];
		const found = Array.from({ length: this.#shape.tables }, (_, table) => this.#match(table * this.#shape.buckets + bucket, tag, vip));
		return found.filter((f) => f !== undefined).sort((a, b) => a.age - b.age)[0];
	}

	/** Seconds of so many time units. */
	seconds(units: number): number {
		return (units * 2 ** this.#clock.shift) / this.#clock.hz;
	}

	/** Forgets all flows of these vip numbers. */
	async forgetVips(numbers: readonly number[]): Promise<void> {
		if (numbers.length > 0) await this.#native.sweepFlowsAsync(this.#memory, VIP_MASK, sorted(numbers, 0n));
	}

	/** Forgets all flows to these backend ids. */
	async forgetBackends(ids: readonly number[]): Promise<void> {
		if (ids.length > 0) await this.#native.sweepFlowsAsync(this.#memory, BACKEND_MASK << BACKEND_SHIFT, sorted(ids, BACKEND_SHIFT));
	}

	/** Forgets flows that were silent for longer; resolves with their number. */
	expire(seconds: number): Promise<number> {
		const units = Math.floor((seconds * this.#clock.hz) / 2 ** this.#clock.shift);
		return this.#native.expireFlowsAsync(this.#memory, this.#clock.now(), Math.min(units, TIME_MASK - 1));
	}

	/** Entries by backend id, for ids below `size`. */
	count(size: number): Promise<Uint32Array> {
		return this.#native.countFlowsAsync(this.#memory, size);
	}

	#match(bucket: number, tag: bigint, vip: number): FoundFlow | undefined {
		const start = (bucket * FLOW_BUCKET_SIZE) / 8;
		for (let at = start; at < start + FLOW_BUCKET_SIZE / 8; at += FLOW_ENTRY_SIZE / 8) {
			const word = Atomics.load(this.#words, at + 1);
			if (word === 0n || (word & VIP_MASK) !== BigInt(vip)) continue;
			const backend = Number((word >> BACKEND_SHIFT) & BACKEND_MASK);
			if (Atomics.load(this.#words, at) !== (tag ^ mix(backend, vip))) continue;
			return {
				backend,
				age: (this.#clock.now() - Number(word >> TIME_SHIFT)) & TIME_MASK,
				established: ((word >> BigInt(FlowLayout.FLOW_ESTABLISHED_BIT)) & 1n) === 1n,
			};
		}
		return undefined;
	}

	#bucket({ family, table, dest }: FlowKey): number {
		const k = (i: number) => this.#shape.key[i] ?? 0n;
		const port = BigInt(wirePort(table.sourcePort)) << 32n;
		const [s, d] = [table.source, dest];
		const hash =
			family === 4
				? (little(s, 0, 4) | port) * k(0) + little(d, 0, 4) * k(1)
				: little(s, 0, 8) * k(0) + little(s, 8, 8) * k(1) + little(d, 8, 8) * k(2) + port * k(3);
		return Number((((hash & WORD) >> 32n) * BigInt(this.#shape.buckets)) >> 32n);
	}

	#tag({ family, isPrefix, dest, table }: FlowKey): bigint {
		const ports = BigInt(wirePort(table.sourcePort)) | (BigInt(wirePort(table.destPort)) << 16n);
		if (isPrefix) {
			const [low, high] = [this.#sum(table.source, ports, 4), this.#sum(table.source, ports, 9)];
			const [destLow, destHigh] = [this.#wordSum(dest, 14), this.#wordSum(dest, 18)];
			return (((low + destLow) & WORD) >> 32n) | ((((high + destHigh) & WORD) >> 32n) << 32n);
		}
		if (family === 4) return little(table.source, 0, 4) | (ports << 32n);
		const half = (key: number) => (this.#sum(table.source, ports, key) & WORD) >> 32n;
		return half(4) | (half(9) << 32n);
	}

	/** The multilinear hash of source and ports, not reduced. */
	#sum(source: Uint8Array, ports: bigint, key: number): bigint {
		return this.#wordSum(source, key) + ports * (this.#shape.key[key + 4] ?? 0n);
	}

	/** The same of the four words of an address; those that an IPv4 address lacks are 0. */
	#wordSum(address: Uint8Array, key: number): bigint {
		const words = Array.from({ length: address.length / 4 }, (_, i) => little(address, 4 * i, 4));
		return words.reduce((total, word, i) => total + word * (this.#shape.key[key + i] ?? 0n), 0n);
	}
}

function mix(backend: number, vip: number): bigint {
	return BigInt((Math.imul(backend, FlowLayout.FLOW_MIX) + vip) >>> 0) << 32n;
}

/** A port's two network-order bytes as a little-endian number. */
function wirePort(port: number): number {
	return ((port & 0xff) << 8) | (port >>> 8);
}

function little(bytes: Uint8Array, at: number, length: number): bigint {
	let value = 0n;
	for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[at + i] ?? 0);
	return value;
}

function sorted(numbers: readonly number[], shift: bigint): BigUint64Array {
	return BigUint64Array.from(numbers, (n) => BigInt(n) << shift).sort();
}
