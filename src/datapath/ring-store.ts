// SPDX-License-Identifier: Apache-2.0
// Rings as packets see them: inner maps of one value each, made and filled aside, then swapped in whole. An inner
// map that is or was in a slot is never written again.
import type { BpfMap } from '../native/addon.d.ts';
import type { NativeAddon } from '../native/binding.ts';
import type { Ring } from '../ring/ring.ts';
import { encodeRingHead, MAPS, RING_HEAD_SIZE } from './abi.gen.ts';
import type { DatapathLimits } from './datapath.ts';
import { kernelCall } from './kernel-error.ts';
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
/** Inner maps filled between two turns of the event loop; each takes some 70 microseconds. */
const FILLS_PER_TURN = 64;

export class RingStore {
	readonly #native: NativeAddon;
	readonly #outer: OuterMap;
	readonly #limits: DatapathLimits;
	/** The value under construction. */
	readonly #value: Uint8Array;

	constructor(native: NativeAddon, outer: OuterMap, limits: DatapathLimits) {
		this.#native = native;
		this.#outer = outer;
		this.#limits = limits;
		this.#value = new Uint8Array(ringBytes(limits));
	}

	/**
	 * Swaps the rings in; resolves after the grace period. Written in batches of a thousand: when one fails, the
	 * slots of it and of the following ones may hold the old ring or the new one.
	 */
	async swap(writes: readonly RingWrite[]): Promise<void> {
		for (let i = 0; i < writes.length; i += RINGS_PER_BATCH) await this.#batch(writes.slice(i, i + RINGS_PER_BATCH));
	}

	async #batch(writes: readonly RingWrite[]): Promise<void> {
		const inner: SlotWrite[] = [];
		try {
			for (const [i, write] of writes.entries()) {
				if (i % FILLS_PER_TURN === FILLS_PER_TURN - 1) await new Promise((resolve) => setImmediate(resolve));
				inner.push({ slot: write.pool, inner: this.#inner(write) });
			}
			await this.#outer.put(inner);
		} finally {
			for (const { inner: map } of inner) map.close();
		}
	}

	#inner({ ring, ids }: RingWrite): BpfMap {
		return kernelCall('make a ring', () => {
			const map = newInnerMap(this.#native, this.#limits);
			encodeRing(this.#value, ring.slots, ids, this.#limits.ringSize);
			map.update(new Uint8Array(4), this.#value);
			return map;
		});
	}
}

/** An inner map whose ring is empty: packets to its pool are dropped under their own reason. */
export function newInnerMap(native: NativeAddon, limits: DatapathLimits): BpfMap {
	const { type, keySize, maxEntries, flags } = MAPS.rings.inner;
	return native.BpfMap.create({ name: 'ring', type, keySize, valueSize: ringBytes(limits), maxEntries, flags });
}

function encodeRing(value: Uint8Array, slots: Uint16Array, ids: readonly number[], ringSize: number): void {
	value.fill(0);
	encodeRingHead(new DataView(value.buffer), 0, { size: slots.length === 0 ? 0 : ringSize, n: ids.length });
	new Uint16Array(value.buffer, RING_HEAD_SIZE, slots.length).set(slots);
	new Uint32Array(value.buffer, RING_HEAD_SIZE + 2 * (ringSize + 1), ids.length).set(ids);
}
