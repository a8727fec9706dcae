// SPDX-License-Identifier: Apache-2.0
// Places keys into buckets of a few so that none overflows: a lookup then never has a second place to look. Hash and
// displace (Belazzougui, Botelho, Dietzfelbinger, ESA 2009): a keyed hash gives each key a group and a bucket, and each
// group moves its buckets by a number that is searched, largest groups first. bpf/vip.h computes the same. Pure, but
// for the seeds it is given.
import { XdpilotError } from '../errors.ts';

export interface TableShape {
	/** log2 of the number of buckets. */
	readonly bits: number;
	/** Keys that fit into a bucket. */
	readonly ways: number;
	/** Words of a key. */
	readonly words: number;
	/** Of moves; a power of two. */
	readonly groups: number;
}

/** What a lookup needs: one odd 64-bit seed for each word of a key, and the move of each group. */
export interface Hashing {
	readonly seeds: readonly bigint[];
	readonly moves: readonly number[];
}

export interface Placement extends Hashing {
	/** Bucket of each key, in the order of the keys. */
	readonly buckets: Uint32Array;
}

const MASK64 = (1n << 64n) - 1n;
/** Seeds tried before giving up: more than one is needed only when keys nearly fill the table. */
const ATTEMPTS = 8;
/** Moves are u16. */
const MAX_MOVE = 0xffff;
/** Buckets looked at, for each key, before seeds are given up: good ones need some ten. */
const PATIENCE = 256;

/** The bucket of a key of one or more little-endian words. */
export function bucketOf(words: readonly bigint[], { seeds, moves }: Hashing, shape: TableShape): number {
	const { group, start } = hashOf(words, seeds, shape);
	return (start + (moves[group] ?? 0)) % 2 ** shape.bits;
}

/**
 * Finds moves, and if need be seeds, under which no bucket overflows. The seeds of `current` are tried first.
 * @throws XdpilotError E_LIMIT when there are too many keys for the table
 */
export function placeKeys(
	keys: readonly (readonly bigint[])[],
	shape: TableShape,
	current: readonly bigint[],
	drawSeed: () => bigint,
): Placement {
	const draw = () => Array.from({ length: shape.words }, () => (drawSeed() & MASK64) | 1n);
	let seeds = current.length === shape.words && current.every((s) => (s & 1n) === 1n) ? current : draw();
	for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
		const placed = tryPlace(keys, shape, seeds);
		if (placed) return placed;
		seeds = draw();
	}
	throw new XdpilotError('E_LIMIT', `${keys.length} vips and addresses do not fit into ${2 ** shape.bits} buckets of ${shape.ways}`, {
		unaffected: 'the vips stay as they are',
		hint: 'raise datapath.max_vips, which sizes the table',
	});
}

function hashOf(words: readonly bigint[], seeds: readonly bigint[], { bits, groups }: TableShape): { group: number; start: number } {
	let sum = 0n;
	for (const [i, word] of words.entries()) sum += word * (seeds[i] ?? 0n);
	const groupBits = Math.log2(groups);
	const top = Number((sum & MASK64) >> BigInt(64 - groupBits - bits));
	return { group: Math.floor(top / 2 ** bits), start: top % 2 ** bits };
}

function tryPlace(keys: readonly (readonly bigint[])[], shape: TableShape, seeds: readonly bigint[]): Placement | undefined {
	const hashes = keys.map((key) => hashOf(key, seeds, shape));
	const members = new Map<number, number[]>();
	for (const { group, start } of hashes) members.set(group, [...(members.get(group) ?? []), start]);
	const moves = new Array<number>(shape.groups).fill(0);
	const used = new Uint8Array(2 ** shape.bits);
	const effort = { left: PATIENCE * keys.length };
	// Ties by number, so that equal sets give equal tables.
	for (const [group, starts] of [...members].sort(([g, a], [h, b]) => b.length - a.length || g - h)) {
		const move = findMove(starts, used, shape.ways, effort);
		if (move === undefined) return undefined;
		moves[group] = move;
	}
	const buckets = Uint32Array.from(hashes, ({ group, start }) => (start + (moves[group] ?? 0)) % used.length);
	return { seeds, moves, buckets };
}

/** The least move under which all of a group find room, which they then have taken. */
function findMove(starts: readonly number[], used: Uint8Array, ways: number, effort: { left: number }): number | undefined {
	for (let move = 0; move <= Math.min(MAX_MOVE, used.length - 1) && effort.left > 0; move++) {
		let taken = 0;
		for (const start of starts) {
			const bucket = (start + move) % used.length;
			effort.left--;
			if ((used[bucket] ?? 0) >= ways) break;
			used[bucket] = (used[bucket] ?? 0) + 1;
			taken++;
		}
		if (taken === starts.length) return move;
		for (const start of starts.slice(0, taken)) {
			const bucket = (start + move) % used.length;
			used[bucket] = (used[bucket] ?? 0) - 1;
		}
	}
	return undefined;
}
