// SPDX-License-Identifier: Apache-2.0
// Hashes behind a ring: of a backend's address (its place among the ring's members), and of that hash (its
// permutation of the slots). They decide which backend a flow gets, equally on every host and in Katran; none may
// ever change. All arithmetic is modulo 2^64.
import { type Address, addressBytes, familyOf } from '../model/address.ts';

const WORD = (1n << 64n) - 1n;
const rotateLeft = (x: bigint, n: bigint) => ((x << n) | (x >> (64n - n))) & WORD;
const multiply = (a: bigint, b: bigint) => (a * b) & WORD;
const add = (a: bigint, b: bigint) => (a + b) & WORD;

/** CityHash's Hash128to64. */
function combine(upper: bigint, lower: bigint): bigint {
	const factor = 0x9ddfea08eb382d69n;
	let a = multiply(lower ^ upper, factor);
	a ^= a >> 47n;
	let b = multiply(upper ^ a, factor);
	b ^= b >> 47n;
	return multiply(b, factor);
}

/** FNV-1 of 32 bits, but over sign-extended bytes, as C++ `char` made it. */
function fnvSigned(bytes: Uint8Array): bigint {
	let hash = 2166136261;
	for (const byte of bytes) hash = Math.imul(hash, 16777619) ^ ((byte << 24) >> 24);
	return BigInt(hash >>> 0);
}

/** Rotations of SpookyHash V2's ShortMix and ShortEnd (Bob Jenkins, public domain). */
const SHORT_MIX = [50n, 52n, 30n, 41n, 54n, 48n, 38n, 37n, 62n, 34n, 5n, 36n];
const SHORT_END = [15n, 52n, 26n, 51n, 28n, 9n, 47n, 54n, 32n, 25n, 63n];

/** SpookyHash V2 of 16 bytes with seeds 0, 0: the two halves of its 128 bits. */
function spooky16(bytes: Uint8Array): [bigint, bigint] {
	const constant = 0xdeadbeefdeadbeefn;
	const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
	// State a b c d, in that order.
	const s: [bigint, bigint, bigint, bigint] = [
		0n,
		0n,
		add(constant, view.getBigUint64(0, true)),
		add(constant, view.getBigUint64(8, true)),
	];
	for (const [i, rotation] of SHORT_MIX.entries()) {
		// Each step rotates one word, adds the next and mixes it into the one after the next, starting with c.
		const [x, next, mixed] = [(i + 2) % 4, (i + 3) % 4, i % 4] as [0 | 1 | 2 | 3, 0 | 1 | 2 | 3, 0 | 1 | 2 | 3];
		s[x] = add(rotateLeft(s[x], rotation), s[next]);
		s[mixed] ^= s[x];
	}
	s[3] = add(s[3], (16n << 56n) + constant);
	s[2] = add(s[2], constant);
	for (const [i, rotation] of SHORT_END.entries()) {
		// Each step mixes one word into the next, rotates it and adds it, starting with c into d.
		const [x, next] = [(i + 2) % 4, (i + 3) % 4] as [0 | 1 | 2 | 3, 0 | 1 | 2 | 3];
		s[next] ^= s[x];
		s[x] = rotateLeft(s[x], rotation);
		s[next] = add(s[next], s[x]);
	}
	return [s[0], s[1]];
}

const AF_INET = 2n;
const AF_INET6 = 10n;

/** Hash of a backend's address: what folly's IPAddress::hash() gives on a 64-bit Linux, which Katran uses. */
export function endpointHash(address: Address): bigint {
	const bytes = addressBytes(address);
	if (familyOf(address) === 4) return combine(AF_INET, fnvSigned(bytes));
	return combine(AF_INET6, combine(...spooky16(bytes)));
}

/** First half of MurmurHash3 x64 128 (Austin Appleby, public domain) of the 16-byte message (a, b). */
export function murmur(a: bigint, b: bigint, seed: bigint): bigint {
	const c1 = 0x87c37b91114253d5n;
	const c2 = 0x4cf5ad432745937fn;
	let h1 = seed ^ multiply(rotateLeft(multiply(a, c1), 31n), c2);
	h1 = add(multiply(add(rotateLeft(h1, 27n), seed), 5n), 0x52dce729n);
	let h2 = seed ^ multiply(rotateLeft(multiply(b, c2), 33n), c1);
	h2 = add(multiply(add(rotateLeft(h2, 31n), h1), 5n), 0x38495ab5n);
	h1 = add(h1 ^ 16n, h2 ^ 16n);
	h2 = add(h2 ^ 16n, h1);
	return add(finalMix(h1), finalMix(h2));
}

function finalMix(k: bigint): bigint {
	const once = multiply(k ^ (k >> 33n), 0xff51afd7ed558ccdn);
	const twice = multiply(once ^ (once >> 33n), 0xc4ceb9fe1a85ec53n);
	return twice ^ (twice >> 33n);
}

/** First slot and stride of a member's permutation of the slots. */
export function permutationOf(hash: bigint, ringSize: number): { readonly offset: number; readonly skip: number } {
	const size = BigInt(ringSize);
	return {
		offset: Number(murmur(hash, 42n, 0n) % size),
		skip: Number(murmur(hash, 2718281828n, 2307n) % (size - 1n)) + 1,
	};
}
