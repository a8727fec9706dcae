// SPDX-License-Identifier: Apache-2.0
// The reference ring builder: Maglev (Eisenbud et al., NSDI 2016, 3.4) with weights in the two forms that Katran has.
// The native builder must give the same ring, slot by slot; where there is no addon, this one does the work.
import type { RingInput } from '../native/addon.d.ts';
import { permutationOf } from './hash.ts';

/** Rings have at most this many members, since a slot holds a u16. */
export const MAX_RING_MEMBERS = 65535;

const EMPTY = -1;

/** One member's walk through its permutation of the slots. */
interface Walk {
	readonly offset: number;
	readonly skip: number;
	/** Steps taken so far. */
	next: number;
}

/**
 * Builds one ring. Element i of the result is the index of slot i's member, or `ranks` of it where that is given.
 * Members take turns in the order given, so callers sort them by hash. Version 1: `weight` turns in the first round,
 * then one in each; version 2: turns in proportion to the weights.
 * @throws RangeError if the size is not a prime above 2 or there is not from 1 to MAX_RING_MEMBERS members
 */
export function buildReferenceRing(input: RingInput, ringSize: number): Uint16Array {
	const count = input.hashes.length;
	if (!isPrime(ringSize) || ringSize < 3) throw new RangeError(`a ring size is a prime above 2, got ${ringSize}`);
	if (count < 1 || count > MAX_RING_MEMBERS || input.weights.length !== count) {
		throw new RangeError(`a ring has 1 to ${MAX_RING_MEMBERS} members and as many weights, got ${count} and ${input.weights.length}`);
	}
	const members = count === 1 ? new Int32Array(ringSize) : fill(input, ringSize);
	return Uint16Array.from(members, (m) => input.ranks?.[m] ?? m);
}

function fill(input: RingInput, ringSize: number): Int32Array {
	const walks: Walk[] = Array.from(input.hashes, (hash) => ({ ...permutationOf(hash, ringSize), next: 0 }));
	const turns = input.version === 1 ? frontLoadedTurns(input.weights) : proportionalTurns(input.weights);
	const ring = new Int32Array(ringSize).fill(EMPTY);
	for (let filled = 0; filled < ringSize; ) {
		for (const [member, walk] of walks.entries()) {
			for (let n = turns(member); n > 0 && filled < ringSize; n--, filled++) ring[nextFree(walk, ring)] = member;
		}
	}
	return ring;
}

/** Version 1: a weight counts once, in the first round. */
function frontLoadedTurns(weights: Uint32Array): (member: number) => number {
	const pending = Uint32Array.from(weights);
	return (member) => {
		const turns = pending[member] ?? 1;
		pending[member] = 1;
		return turns;
	};
}

/** Version 2: weights add up, and a turn costs what the heaviest member gains in a round. */
function proportionalTurns(weights: Uint32Array): (member: number) => number {
	const price = weights.reduce((a, b) => Math.max(a, b), 0);
	const credit = new Float64Array(weights.length);
	return (member) => {
		const sum = (credit[member] ?? 0) + (weights[member] ?? 0);
		credit[member] = sum >= price ? sum - price : sum;
		return sum >= price ? 1 : 0;
	};
}

/**
 * The walk's next slot that nobody has. `offset + next * skip` wraps at 2^32, as in Katran: with 65537 slots that
 * bends only a walk's very last step, and a walk it keeps from the last free slots for ever (Katran never returns
 * there) takes the lowest of them after STEPS_PER_SLOT visits to each slot.
 */
function nextFree(walk: Walk, ring: Int32Array): number {
	for (const limit = STEPS_PER_SLOT * ring.length; walk.next < limit; ) {
		const slot = ((walk.offset + Math.imul(walk.next++, walk.skip)) >>> 0) % ring.length;
		if (ring[slot] === EMPTY) return slot;
	}
	return ring.indexOf(EMPTY);
}

const STEPS_PER_SLOT = 64;

function isPrime(n: number): boolean {
	if (!Number.isInteger(n) || n < 2 || n > 0xffffffff) return false;
	for (let d = 2; d * d <= n; d++) if (n % d === 0) return false;
	return true;
}
