// SPDX-License-Identifier: Apache-2.0
// Rings as packets see them: inner maps of one value each, made and filled aside, then swapped in whole. An inner
// map that is or was in a slot is never written again.
import type { BpfMap, MapSpec } from '../native/addon.d.ts';
import type { NativeAddon } from '../native/binding.ts';
import type { Ring } from '../ring/ring.ts';
import { encodeRingHead, MAPS, RING_HEAD_SIZE } from './abi.gen.ts';
import type { DatapathLimits } from './datapath.ts';
import { kernelError } from './kernel-error.ts';
import { ringBytes } from './options.ts';
import type { OuterMap, SlotWrite } from './outer-map.ts';

/** A ring for the slot of a pool. */
export interface RingWrite {
	/** Pool number. */
	readonly pool: number;
	readonly ring: Ring;
	/** Backend ids of ring.spec.members, in their order. */
	readonly ids: readonly number[];
}

/** Inner maps of one batch: each is an open file until the batch is done. */
const RINGS_PER_BATCH = 1024;
/** Rings encoded between two turns of the event loop, some 10 microseconds each; worker threads make maps of them. */
const RINGS_PER_TURN = 32;

export class RingStore {
	readonly #native: NativeAddon;
	readonly #outer: OuterMap;
	readonly #limits: DatapathLimits;

	constructor(native: NativeAddon, outer: OuterMap, limits: DatapathLimits) {
		this.#native = native;
		this.#outer = outer;
		this.#limits = limits;
	}

	/**
	 * Swaps the rings in; resolves after the grace period. Written in batches of a thousand: when one fails, the
	 * slots of it and of the following ones may hold the old ring or the new one.
	 */
	async swap(writes: readonly RingWrite[]): Promise<void> {
		for (let i = 0; i < writes.length; i += RINGS_PER_BATCH) await this.#batch(writes.slice(i, i + RINGS_PER_BATCH));
	}

	async #batch(writes: readonly RingWrite[]): Promise<void> {
		const made: SlotWrite[] = [];
		try {
			const values = new Uint8Array(Math.min(writes.length, RINGS_PER_TURN) * ringBytes(this.#limits));
			for (let i = 0; i < writes.length; i += RINGS_PER_TURN) {
				const part = writes.slice(i, i + RINGS_PER_TURN);
				const maps = await this.#make(part, values);
				made.push(...part.flatMap(({ pool: slot }, n) => (maps[n] ? [{ slot, inner: maps[n] }] : [])));
			}
			await this.#outer.put(made);
		} finally {
			for (const { inner } of made) inner.close();
		}
	}

	/** Inner maps of these rings. `values` is where they are encoded. */
	async #make(rings: readonly RingWrite[], values: Uint8Array): Promise<BpfMap[]> {
		const size = ringBytes(this.#limits);
		for (const [i, { ring, ids }] of rings.entries())
			encodeRing(values.subarray(i * size, (i + 1) * size), ring.slots, ids, this.#limits.ringSize);
		try {
			return await this.#native.BpfMap.createFilledAsync(innerSpec(this.#limits), values.subarray(0, rings.length * size));
		} catch (e) {
			throw kernelError('make a ring', e);
		}
	}
}

/** An inner map whose ring is empty: packets to its pool are dropped under their own reason. */
export function newInnerMap(native: NativeAddon, limits: DatapathLimits): BpfMap {
	return native.BpfMap.create(innerSpec(limits));
}

function innerSpec(limits: DatapathLimits): MapSpec {
	const { type, keySize, maxEntries, flags } = MAPS.rings.inner;
	return { name: 'ring', type, keySize, valueSize: ringBytes(limits), maxEntries, flags };
}

function encodeRing(value: Uint8Array, slots: Uint16Array, ids: readonly number[], ringSize: number): void {
	value.fill(0);
	encodeRingHead(new DataView(value.buffer, value.byteOffset), 0, { size: slots.length === 0 ? 0 : ringSize, n: ids.length });
	new Uint16Array(value.buffer, value.byteOffset + RING_HEAD_SIZE, slots.length).set(slots);
	new Uint32Array(value.buffer, value.byteOffset + RING_HEAD_SIZE + 2 * (ringSize + 1), ids.length).set(ids);
}
