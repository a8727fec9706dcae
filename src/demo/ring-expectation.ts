// SPDX-License-Identifier: Apache-2.0
// What Maglev itself costs: how many slots a change of a pool moves beyond those that no table could keep, for pools
// of arbitrary backends. A single ring is one draw of this; the mean over many is what to hold it against.
import type { Env } from '../env.ts';
import type { RingInput } from '../native/addon.d.ts';
import type { NativeAddon } from '../native/binding.ts';

export interface SlotMoves {
	/** Slots whose backend changed. */
	readonly moved: number;
	/** Of these, slots whose backend left or had to give them up. */
	readonly unavoidable: number;
}

const DRAWS = 12;
const MAGLEV_V2 = 2;

/** Mean excess in slots when a pool of `before` equal backends becomes one of `after`, by joining or leaving. */
export async function expectedExcess(native: NativeAddon, env: Env, ringSize: number, before: number, after: number): Promise<number> {
	const draws = Array.from({ length: DRAWS }, () => randomHashes(env, Math.max(before, after)));
	const built = await native.buildRingsAsync(
		draws.flatMap((hashes) => [ringOf(hashes, before), ringOf(hashes, after)]),
		ringSize,
	);
	let excess = 0;
	for (let i = 0; i < built.length; i += 2) {
		const { moved, unavoidable } = slotMoves(built[i] ?? new Uint16Array(), built[i + 1] ?? new Uint16Array());
		excess += moved - unavoidable;
	}
	return excess / DRAWS;
}

/** Compares two rings whose ranks mean the same backends. */
export function slotMoves(before: Uint16Array, after: Uint16Array): SlotMoves {
	const count = (ring: Uint16Array) => {
		const counts = new Map<number, number>();
		for (const rank of ring) counts.set(rank, (counts.get(rank) ?? 0) + 1);
		return counts;
	};
	const then = count(before);
	const now = count(after);
	let moved = 0;
	for (const [slot, rank] of before.entries()) if (after[slot] !== rank) moved++;
	let unavoidable = 0;
	for (const [rank, slots] of then) unavoidable += Math.max(0, slots - (now.get(rank) ?? 0));
	return { moved, unavoidable };
}

/** The ring of the first `count` backends: members take turns in the order of their hashes, slots hold the backends' numbers. */
function ringOf(hashes: readonly bigint[], count: number): RingInput {
	const order = hashes.slice(0, count).map((hash, number) => ({ hash, number }));
	order.sort((a, b) => (a.hash < b.hash ? -1 : 1));
	return {
		version: MAGLEV_V2,
		hashes: BigUint64Array.from(order, (m) => m.hash),
		weights: new Uint32Array(count).fill(1),
		ranks: Uint16Array.from(order, (m) => m.number),
	};
}

function randomHashes(env: Env, count: number): bigint[] {
	const word = () => BigInt(Math.floor(env.random() * 0x1_0000_0000));
	return Array.from({ length: count }, () => (word() << 32n) | word());
}
