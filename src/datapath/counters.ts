// SPDX-License-Identifier: Apache-2.0
// Sums the per-CPU counter lines of the programs out of mapped memory: no system call, no lock. A sum is not a
// moment: CPUs go on counting while it is made. A number gets fresh lines before a new bearer uses it.
import {
	BACKEND_COUNTER_OFFSET,
	BACKEND_COUNTER_SIZE,
	CPU_COUNTERS_OFFSET,
	CPU_COUNTERS_SIZE,
	LB_COUNTER_NAMES,
	LB_DROP_NAMES,
	VIP_COUNTER_OFFSET,
	VIP_COUNTER_SIZE,
} from './abi.gen.ts';
import type { TrafficCounters, VipCounters } from './datapath.ts';

export interface CounterMemory {
	readonly vips: ArrayBuffer;
	readonly backends: ArrayBuffer;
	readonly cpus: ArrayBuffer;
}

export class Counters {
	readonly #vips: BigUint64Array;
	readonly #backends: BigUint64Array;
	readonly #cpus: BigUint64Array;
	readonly #maxVips: number;
	readonly #maxBackends: number;
	readonly #cpuCount: number;

	/** `lines`: of vips and backends for each CPU, as the program was told. */
	constructor(memory: CounterMemory, cpus: number, lines: { readonly vips: number; readonly backends: number }) {
		this.#vips = new BigUint64Array(memory.vips);
		this.#backends = new BigUint64Array(memory.backends);
		this.#cpus = new BigUint64Array(memory.cpus);
		this.#maxVips = lines.vips;
		this.#maxBackends = lines.backends;
		this.#cpuCount = cpus;
	}

	vip(number: number): VipCounters {
		const at = (field: number) => this.#sum(this.#vips, number, this.#maxVips, VIP_COUNTER_SIZE, field);
		return {
			packets: at(VIP_COUNTER_OFFSET.packets),
			bytes: at(VIP_COUNTER_OFFSET.bytes),
			newFlows: at(VIP_COUNTER_OFFSET.ring),
		};
	}

	backend(id: number): TrafficCounters {
		const at = (field: number) => this.#sum(this.#backends, id, this.#maxBackends, BACKEND_COUNTER_SIZE, field);
		return { packets: at(BACKEND_COUNTER_OFFSET.packets), bytes: at(BACKEND_COUNTER_OFFSET.bytes) };
	}

	global(): Record<string, bigint> {
		return this.#named(LB_COUNTER_NAMES, CPU_COUNTERS_OFFSET.count);
	}

	drops(): Record<string, bigint> {
		return this.#named(LB_DROP_NAMES, CPU_COUNTERS_OFFSET.drop);
	}

	/** Fresh lines for a number that nothing uses. */
	clearVip(number: number): void {
		this.#clear(this.#vips, number, this.#maxVips, VIP_COUNTER_SIZE);
	}

	clearBackend(id: number): void {
		this.#clear(this.#backends, id, this.#maxBackends, BACKEND_COUNTER_SIZE);
	}

	#named(names: readonly string[], offset: number): Record<string, bigint> {
		const sum = (i: number) => this.#sum(this.#cpus, 0, 1, CPU_COUNTERS_SIZE, offset + 8 * i);
		return Object.fromEntries(names.map((name, i) => [name, name.endsWith('_last') ? this.#sample(offset + 8 * i) : sum(i)]));
	}

	#sum(words: BigUint64Array, line: number, lines: number, size: number, field: number): bigint {
		let total = 0n;
		for (let cpu = 0; cpu < this.#cpuCount; cpu++) total += Atomics.load(words, ((cpu * lines + line) * size + field) / 8);
		return total;
	}

	/** Of a sample, which is no count: any CPU's. */
	#sample(field: number): bigint {
		let found = 0n;
		for (let cpu = 0; cpu < this.#cpuCount; cpu++) found = Atomics.load(this.#cpus, (cpu * CPU_COUNTERS_SIZE + field) / 8) || found;
		return found;
	}

	#clear(words: BigUint64Array, line: number, lines: number, size: number): void {
		for (let cpu = 0; cpu < this.#cpuCount; cpu++) {
			const start = ((cpu * lines + line) * size) / 8;
			words.fill(0n, start, start + size / 8);
		}
	}
}
