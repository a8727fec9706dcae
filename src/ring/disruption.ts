// SPDX-License-Identifier: Apache-2.0
// What a swap does to flows that no flow table holds: how many slots change their backend, and how many of these had
// to, whatever the algorithm.
import type { Address } from '../model/address.ts';
import type { Ring } from './ring.ts';

export interface Disruption {
	/** Slots whose backend differs. */
	readonly moved: number;
	/** Slots that backends gave up: those of backends that left, and what others shrank by. Never above `moved`. */
	readonly unavoidable: number;
}

/** Compares two rings of one size by address. An empty ring has no slots to move. @throws RangeError for two sizes */
export function disruption(before: Ring, after: Ring): Disruption {
	const size = before.slots.length;
	if (size === 0) return { moved: 0, unavoidable: 0 };
	if (after.slots.length === 0) return { moved: size, unavoidable: size };
	if (after.slots.length !== size) throw new RangeError(`rings of ${size} and ${after.slots.length} slots can't be compared`);
	const rankAfter = new Map<Address, number>(after.spec.members.map((m, rank) => [m.address, rank]));
	const translated = Int32Array.from(before.spec.members, (m) => rankAfter.get(m.address) ?? GONE);
	let moved = 0;
	for (let slot = 0; slot < size; slot++) if (translated[before.slots[slot] ?? 0] !== after.slots[slot]) moved++;
	let unavoidable = 0;
	for (const [rank, count] of before.counts.entries()) {
		const now = translated[rank] ?? GONE;
		unavoidable += Math.max(0, count - (now === GONE ? 0 : (after.counts[now] ?? 0)));
	}
	return { moved, unavoidable };
}

const GONE = -1;
