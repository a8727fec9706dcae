// SPDX-License-Identifier: Apache-2.0
// Rings from their specs. A ring is a pure function of (members, weights, hash function, size): not of the order in
// which members are given, of ids or of time. Two orders are at work: members take turns by endpoint hash, equal
// hashes by address; slots hold ranks into the list sorted by address.
import type { RingMember, RingSpec } from '../datapath/datapath.ts';
import { type Address, compareAddresses } from '../model/address.ts';
import type { RingInput } from '../native/addon.d.ts';
import type { NativeAddon } from '../native/binding.ts';
import { ringDigest } from './digest.ts';
import { endpointHash } from './hash.ts';
import { buildReferenceRing } from './maglev.ts';

/** A built ring. */
export interface Ring {
	readonly spec: RingSpec;
	/** Rank into spec.members of each slot; no elements when there are no members. */
	readonly slots: Uint16Array;
	/** Slots of each member, by rank. */
	readonly counts: Uint32Array;
	/** ringDigest(); null when there are no members. */
	readonly digest: string | null;
}

/** Turns inputs into slots; implementations agree slot by slot. */
export interface RingBuilder {
	build(inputs: readonly RingInput[], ringSize: number): Promise<Uint16Array[]>;
}

/** In the addon, on worker threads. */
export function nativeRingBuilder(addon: Pick<NativeAddon, 'buildRingsAsync'>): RingBuilder {
	return { build: (inputs, ringSize) => addon.buildRingsAsync(inputs, ringSize) };
}

/** In TypeScript, on the calling thread: some 20 ms a ring. */
export const referenceRingBuilder: RingBuilder = {
	build: async (inputs, ringSize) => inputs.map((input) => buildReferenceRing(input, ringSize)),
};

/** Rings finished between two turns of the event loop: counting and digesting cost it about a fifth of a millisecond each. */
const RINGS_PER_TURN = 32;
const MAX_KNOWN_HASHES = 1 << 17;

/** Builds rings with one builder and one size; remembers the hashes of addresses, which are asked for at every change. */
export class RingFactory {
	readonly #builder: RingBuilder;
	readonly #ringSize: number;
	readonly #hashes = new Map<Address, bigint>();

	constructor(builder: RingBuilder, ringSize: number) {
		this.#builder = builder;
		this.#ringSize = ringSize;
	}

	/**
	 * Builds all the rings, in the order of the specs.
	 * @throws TypeError if a spec has an address twice or a weight that is not an integer from 1 to 65535
	 */
	async build(specs: readonly RingSpec[]): Promise<Ring[]> {
		const out: Ring[] = [];
		for (let i = 0; i < specs.length; i += RINGS_PER_TURN) {
			const part = specs.slice(i, i + RINGS_PER_TURN).map(sorted);
			const filled = part.filter((s) => s.members.length > 0);
			const built = await this.#builder.build(
				filled.map((s) => this.#input(s)),
				this.#ringSize,
			);
			const slotsOf = new Map(filled.map((s, n) => [s, built[n]]));
			for (const spec of part) out.push(finish(spec, slotsOf.get(spec) ?? new Uint16Array(0)));
		}
		return out;
	}

	#input(spec: RingSpec): RingInput {
		const hashes = BigUint64Array.from(spec.members, (m) => this.#hashOf(m.address));
		const ranks = ringOrder(hashes);
		return {
			version: spec.hash === 'maglev-v1' ? 1 : 2,
			hashes: BigUint64Array.from(ranks, (rank) => hashes[rank] ?? 0n),
			weights: Uint32Array.from(ranks, (rank) => spec.members[rank]?.weight ?? 0),
			ranks,
		};
	}

	#hashOf(address: Address): bigint {
		const known = this.#hashes.get(address);
		if (known !== undefined) return known;
		if (this.#hashes.size >= MAX_KNOWN_HASHES) this.#hashes.clear();
		const hash = endpointHash(address);
		this.#hashes.set(address, hash);
		return hash;
	}
}

/** Ranks by hash ascending; equal hashes by rank, that is by address. */
function ringOrder(hashes: BigUint64Array): Uint16Array {
	return Uint16Array.from(hashes.keys()).sort((a, b) => {
		const [x, y] = [hashes[a] ?? 0n, hashes[b] ?? 0n];
		return x < y ? -1 : x > y ? 1 : a - b;
	});
}

function sorted(spec: RingSpec): RingSpec {
	const members = [...spec.members].sort((a, b) => compareAddresses(a.address, b.address));
	for (const [i, member] of members.entries()) checkMember(spec, member, members[i - 1]);
	return { ...spec, members };
}

function checkMember(spec: RingSpec, member: RingMember, previous: RingMember | undefined): void {
	if (member.address === previous?.address) throw new TypeError(`pool ${spec.pool} has ${member.address} twice`);
	if (Number.isInteger(member.weight) && member.weight >= 1 && member.weight <= 65535) return;
	throw new TypeError(`pool ${spec.pool}: ${member.address} has weight ${member.weight}, a ring takes 1 to 65535`);
}

function finish(spec: RingSpec, slots: Uint16Array): Ring {
	const counts = new Uint32Array(spec.members.length);
	// By index: an iterator over 65537 elements takes ten times as long.
	for (let slot = 0; slot < slots.length; slot++) {
		const rank = slots[slot] ?? 0;
		counts[rank] = (counts[rank] ?? 0) + 1;
	}
	return { spec, slots, counts, digest: slots.length === 0 ? null : ringDigest(spec, slots) };
}
