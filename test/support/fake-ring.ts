// SPDX-License-Identifier: Apache-2.0
// Rings for the fake datapath: a weighted Maglev table of its own, small and slow, with the properties that callers
// may rely on (a pure function of the spec, shares by weight, few moves) and the published form of the digest.
import { createHash } from 'node:crypto';
import type { RingSpec, RingSwap } from '../../src/datapath/datapath.ts';
import type { FlowKey } from '../../src/datapath/flow-key.ts';
import { type Address, mappedBytes } from '../../src/model/address.ts';

export interface FakeRing {
	readonly spec: RingSpec;
	/** The backend of each slot; empty when the pool is. */
	readonly slots: readonly Address[];
	readonly digest: string | null;
}

/** Builds the ring of a spec. */
export function ringOf(spec: RingSpec, size: number): FakeRing {
	if (spec.members.length === 0) return { spec, slots: [], digest: null };
	const ranks = fill(spec, size);
	const slots = Array.from(ranks, (rank) => spec.members[rank]?.address ?? (spec.members[0]?.address as Address));
	return { spec, slots, digest: digestOf(spec, ranks) };
}

/** How `next` differs from `previous`. */
export function swapOf(pool: string, previous: FakeRing | null, next: FakeRing, generation: number): RingSwap {
	const before = previous?.slots ?? [];
	const count = (slots: readonly Address[], a: Address) => slots.reduce((n, x) => n + (x === a ? 1 : 0), 0);
	const moved = before.filter((a, i) => next.slots[i] !== a).length;
	const shrunk = [...new Set(before)].map((a) => Math.max(0, count(before, a) - count(next.slots, a)));
	return { pool, generation, digest: next.digest, moved, unavoidable: shrunk.reduce((a, b) => a + b, 0) };
}

/** The ring slot of a flow. */
export function slotOf(key: FlowKey, size: number): number {
	const { source, sourcePort, destPort } = key.hash;
	return hash32(`${source.join('.')} ${sourcePort} ${destPort}`) % size;
}

function fill(spec: RingSpec, size: number): Uint16Array {
	const walks = spec.members.map((m) => ({
		offset: hash32(`o${m.address}`) % size,
		skip: (hash32(`s${m.address}`) % (size - 1)) + 1,
		next: 0,
	}));
	const heaviest = Math.max(...spec.members.map((m) => m.weight));
	const credit = spec.members.map(() => 0);
	const ranks = new Uint16Array(size).fill(0xffff);
	for (let taken = 0; taken < size; ) {
		for (const [rank, member] of spec.members.entries()) {
			credit[rank] = (credit[rank] ?? 0) + member.weight;
			const walk = walks[rank];
			if (!walk || (credit[rank] ?? 0) < heaviest || taken === size) continue;
			credit[rank] = (credit[rank] ?? 0) - heaviest;
			let slot = 0;
			do slot = (walk.offset + walk.next++ * walk.skip) % size;
			while (ranks[slot] !== 0xffff);
			ranks[slot] = rank;
			taken++;
		}
	}
	return ranks;
}

function digestOf(spec: RingSpec, ranks: Uint16Array): string {
	const head = new DataView(new ArrayBuffer(8));
	head.setUint32(0, ranks.length, true);
	head.setUint32(4, spec.members.length, true);
	const hash = createHash('sha256').update(`${spec.hash}\0`).update(new Uint8Array(head.buffer));
	for (const { address, weight } of spec.members) hash.update(mappedBytes(address)).update(Buffer.from(Uint32Array.of(weight).buffer));
	return `sha256:${hash.update(new Uint8Array(ranks.buffer)).digest('hex')}`;
}

function hash32(text: string): number {
	return createHash('sha256').update(text).digest().readUInt32LE(0);
}
