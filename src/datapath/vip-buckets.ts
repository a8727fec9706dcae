// SPDX-License-Identifier: Apache-2.0
// Places keys into fixed-size buckets by a keyed multiplicative hash (bpf/vip.h computes the same), searching seeds
// until no bucket overflows: a lookup then never has a second place to look. Pure, but for the seeds it is given.
import { XdpilotError } from '../errors.ts';

/** One odd 64-bit seed for each word of a key. */
export type Seeds = readonly bigint[];

export interface Placement {
	readonly seeds: Seeds;
	/** Bucket of each key, in the order of the keys. */
	readonly buckets: Uint32Array;
}

const MASK64 = (1n << 64n) - 1n;
const ATTEMPTS = 2048;

/** The bucket of a key of one or more little-endian words: the top `bits` bits of the sum of word times seed, mod 2^64. */
export function bucketOf(words: readonly bigint[], seeds: Seeds, bits: number): number {
	let sum = 0n;
	for (const [i, word] of words.entries()) sum += word * (seeds[i] ?? 0n);
	return Number((sum & MASK64) >> BigInt(64 - bits));
}

/**
 * Finds seeds under which at most `ways` of the keys share a bucket. `current` is tried first, so that a small
 * change keeps its seeds. @throws XdpilotError E_LIMIT when no seeds fit: too many keys for 2^bits buckets
 */
export function placeKeys(
	keys: readonly (readonly bigint[])[],
	table: { readonly bits: number; readonly ways: number; readonly words: number },
	current: Seeds,
	drawSeed: () => bigint,
): Placement {
	let seeds = current.every((s) => (s & 1n) === 1n) ? current : draw(table.words, drawSeed);
	for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
		const buckets = tryPlace(keys, table, seeds);
		if (buckets) return { seeds, buckets };
		seeds = draw(table.words, drawSeed);
	}
	throw new XdpilotError('E_LIMIT', `${keys.length} vips and addresses do not fit into ${2 ** table.bits} buckets of ${table.ways}`, {
		unaffected: 'the vips stay as they are',
		hint: 'raise datapath.max_vips, which sizes the table',
	});
}

function tryPlace(
	keys: readonly (readonly bigint[])[],
	table: { readonly bits: number; readonly ways: number },
	seeds: Seeds,
): Uint32Array | undefined {
	const used = new Uint8Array(2 ** table.bits);
	const buckets = new Uint32Array(keys.length);
	for (const [i, key] of keys.entries()) {
		const bucket = bucketOf(key, seeds, table.bits);
		const before = used[bucket] ?? 0;
		if (before === table.ways) return undefined;
		used[bucket] = before + 1;
		buckets[i] = bucket;
	}
	return buckets;
}

function draw(words: number, drawSeed: () => bigint): Seeds {
	return Array.from({ length: words }, () => (drawSeed() & MASK64) | 1n);
}
