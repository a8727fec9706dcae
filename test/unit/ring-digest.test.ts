// SPDX-License-Identifier: Apache-2.0
// Digests of rings and of their inputs. The expected values were worked out with another program (Python's hashlib
// and struct), from the published definition alone.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RingSpec } from '../../src/datapath/datapath.ts';
import { address } from '../../src/model/address.ts';
import { inputsDigest, ringDigest } from '../../src/ring/digest.ts';

const spec: RingSpec = {
	pool: 'web',
	hash: 'maglev-v2',
	members: [
		{ address: address('10.0.0.1'), weight: 1 },
		{ address: address('2001:db8::1'), weight: 300 },
	],
};
const slots = Uint16Array.of(0, 1, 0, 0, 1, 0, 0);

test('a ring has the digest that its definition gives', () => {
	assert.equal(ringDigest(spec, slots), 'sha256:ed4175ae199bbf6e9de407ea8425d686dcbd1bb700f0eee8e1e9edb0e5666dfc');
	assert.equal(
		ringDigest({ ...spec, hash: 'maglev-v1' }, slots),
		'sha256:10036c82fceeaebed2a88cde0ed2eaa8792ddd4c61a50329a8ec5607902ba1f1',
	);
});

test('every part of a ring is in its digest', () => {
	const base = ringDigest(spec, slots);
	const [first, second] = spec.members;
	assert.ok(first && second);
	const others = [
		ringDigest({ ...spec, members: [{ ...first, weight: 2 }, second] }, slots),
		ringDigest({ ...spec, members: [{ ...first, address: address('10.0.0.2') }, second] }, slots),
		ringDigest({ ...spec, members: [first] }, slots),
		ringDigest(spec, Uint16Array.of(0, 1, 0, 0, 1, 0, 1)),
		ringDigest(spec, slots.subarray(0, 5)),
	];
	assert.equal(new Set([base, ...others]).size, others.length + 1);
});

test('a view into a larger buffer is digested as the slots it shows', () => {
	const larger = Uint16Array.of(9, 9, ...slots, 9);
	assert.equal(ringDigest(spec, larger.subarray(2, 9)), ringDigest(spec, slots));
});

test('the pool has no part in a digest: equal rings of two pools are equal', () => {
	assert.equal(ringDigest({ ...spec, pool: 'other' } as RingSpec, slots), ringDigest(spec, slots));
});

test('the digest of the inputs changes with ids, size, hash, weights and members', () => {
	const base = inputsDigest(spec, 65537, [1, 2]);
	const others = [
		inputsDigest(spec, 65537, [2, 1]),
		inputsDigest(spec, 65537),
		inputsDigest(spec, 7, [1, 2]),
		inputsDigest({ ...spec, hash: 'maglev-v1' }, 65537, [1, 2]),
		inputsDigest({ ...spec, members: spec.members.slice(1) }, 65537, [1, 2]),
	];
	assert.equal(new Set([base, ...others]).size, others.length + 1);
	assert.equal(inputsDigest(spec, 65537, [1, 2]), base);
});
