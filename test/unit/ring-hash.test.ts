// SPDX-License-Identifier: Apache-2.0
// The hashes behind a ring, against values that Katran's own sources (with folly) give. A change of any of them would
// send flows to other backends than the rest of a fleet does.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { address } from '../../src/model/address.ts';
import { endpointHash, murmur, permutationOf } from '../../src/ring/hash.ts';

const MURMUR: [bigint, bigint, bigint, bigint][] = [
	[0x0n, 0n, 0n, 0x4bbd1bf27da918d6n],
	[0x1n, 42n, 0n, 0x0b85e5b738ec6ba3n],
	[0x1n, 2718281828n, 2307n, 0x811a3d9354794c04n],
	[0x123456789abcdef0n, 42n, 0n, 0xf0501c6ca6070d2en],
	[0x123456789abcdef0n, 2718281828n, 2307n, 0xfd55a63c45bfe387n],
	[0xffffffffffffffffn, 42n, 0n, 0x0bfb781a2bedf3b1n],
];

/** [hash, offset, skip] with 65537 slots. */
const PERMUTATIONS: [bigint, number, number][] = [
	[0n, 22292, 48325],
	[1n, 3304, 19461],
	[2n, 43699, 25045],
	[10n, 14113, 45913],
	[42n, 41180, 65402],
	[1000n, 14056, 60674],
	[2000n, 4842, 8266],
	[18446744073709551615n, 13282, 25913],
];

/** [address, endpoint hash, offset, skip] with 65537 slots. */
const ENDPOINTS: [string, bigint, number, number][] = [
	['10.0.0.1', 0xd671359dbaa15954n, 4577, 18292],
	['10.0.0.2', 0x2cd426d008b90279n, 42248, 16076],
	['10.0.0.3', 0x6eb4a2989236785dn, 65365, 24158],
	['192.168.1.1', 0x0ffa70e6953d78e6n, 58804, 53530],
	['172.16.200.255', 0x7509d9660359e7f0n, 20041, 32391],
	['0.0.0.0', 0x1154961b360a62ccn, 13016, 8757],
	['255.255.255.255', 0x8f2a3add05a6d637n, 1202, 62567],
	['fc00::1', 0x64e74a25b986d744n, 7827, 60497],
	['fc00::2', 0x87d247835b02295bn, 12132, 1761],
	['fc00::3', 0x0b2e5ea98827f017n, 61702, 64040],
	['2001:db8::1', 0xb7af62f1ee061155n, 38909, 13375],
	['::', 0x525db05acfaae8e9n, 52514, 24153],
	['fc00::2307:1', 0x7e825549bb3f6c33n, 55714, 24272],
];

test('murmur gives the known values', () => {
	for (const [a, b, seed, expected] of MURMUR) assert.equal(murmur(a, b, seed), expected, `M(${a}, ${b}, ${seed})`);
});

test('a hash gives the known offset and skip', () => {
	for (const [hash, offset, skip] of PERMUTATIONS) assert.deepEqual(permutationOf(hash, 65537), { offset, skip }, `hash ${hash}`);
});

test('an address gives the known endpoint hash and permutation', () => {
	for (const [text, hash, offset, skip] of ENDPOINTS) {
		assert.equal(endpointHash(address(text)), hash, text);
		assert.deepEqual(permutationOf(hash, 65537), { offset, skip }, text);
	}
});

test('an IPv4-mapped address hashes as the IPv4 address that it is', () => {
	assert.equal(endpointHash(address('::ffff:192.168.1.1')), endpointHash(address('192.168.1.1')));
});
