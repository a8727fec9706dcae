// SPDX-License-Identifier: Apache-2.0
// RingFactory on the reference builder: what a ring depends on and what it does not, how evenly it shares, and what
// is refused.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { RingMember, RingSpec } from '../../src/datapath/datapath.ts';
import { address, formatAddress } from '../../src/model/address.ts';
import type { RingInput } from '../../src/native/addon.d.ts';
import { endpointHash, permutationOf } from '../../src/ring/hash.ts';
import { buildReferenceRing } from '../../src/ring/maglev.ts';
import { RingFactory, referenceRingBuilder } from '../../src/ring/ring.ts';

const PRIMES = [3, 5, 7, 251, 1021, 4093];

const anyAddress = fc.oneof(
	fc.uint8Array({ minLength: 4, maxLength: 4 }).map(formatAddress),
	fc.uint8Array({ minLength: 16, maxLength: 16 }).map(formatAddress),
);
const anyMembers = (maxWeight: number, maxLength = 24) =>
	fc.uniqueArray(fc.record({ address: anyAddress, weight: fc.integer({ min: 1, max: maxWeight }) }), {
		selector: (m) => m.address,
		minLength: 1,
		maxLength,
	});
const anyHash = fc.constantFrom('maglev-v1' as const, 'maglev-v2' as const);
const anySize = fc.constantFrom(...PRIMES);

const spec = (members: readonly RingMember[], hash: RingSpec['hash'] = 'maglev-v2'): RingSpec => ({ pool: 'web', hash, members });
const buildOne = async (s: RingSpec, size: number) => {
	const [ring] = await new RingFactory(referenceRingBuilder, size).build([s]);
	assert.ok(ring);
	return ring;
};

test('a ring does not depend on the order of its members', async () => {
	await fc.assert(
		fc.asyncProperty(
			anyMembers(9).chain((m) => fc.tuple(fc.constant(m), fc.shuffledSubarray(m, { minLength: m.length }))),
			anyHash,
			anySize,
			async ([members, shuffled], hash, size) => {
				const [a, b] = [await buildOne(spec(members, hash), size), await buildOne(spec(shuffled, hash), size)];
				assert.deepEqual(a.slots, b.slots);
				assert.equal(a.digest, b.digest);
			},
		),
		{ numRuns: 100 },
	);
});

test('the members of a built ring are sorted by address, and its slots are ranks into them', async () => {
	const ring = await buildOne(spec(['10.0.0.3', 'fc00::1', '10.0.0.1'].map((a) => ({ address: address(a), weight: 1 }))), 65537);
	assert.deepEqual(
		ring.spec.members.map((m) => m.address),
		['10.0.0.1', '10.0.0.3', 'fc00::1'],
	);
	// 10.0.0.3 has the lowest endpoint hash but one; offset 65365 is where its walk starts.
	assert.equal(ring.slots[65365], 1);
	assert.equal(ring.slots[4577], 0);
});

test('equal weights share to within one slot', async () => {
	await fc.assert(
		fc.asyncProperty(anyMembers(1), anyHash, anySize, async (members, hash, size) => {
			const { counts } = await buildOne(spec(members, hash), size);
			assert.ok(Math.max(...counts) - Math.min(...counts) <= 1, `${counts}`);
			assert.equal(
				counts.reduce((a, b) => a + b, 0),
				size,
			);
		}),
		{ numRuns: 100 },
	);
});

test('version 2 shares in proportion to the weights, to within one slot of a round', async () => {
	await fc.assert(
		fc.asyncProperty(anyMembers(65535, 8), async (members) => {
			const size = 4093;
			const ring = await buildOne(spec(members), size);
			const sum = members.reduce((n, m) => n + m.weight, 0);
			for (const [rank, member] of ring.spec.members.entries()) {
				const fair = (size * member.weight) / sum;
				const off = Math.abs((ring.counts[rank] ?? 0) - fair);
				assert.ok(off <= members.length, `${member.weight} of ${sum} got ${ring.counts[rank]}, fair is ${fair}`);
			}
		}),
		{ numRuns: 100 },
	);
});

test('version 1 counts a weight in the first round only', async () => {
	await fc.assert(
		fc.asyncProperty(anyMembers(20, 8), async (members) => {
			const { counts, spec: built } = await buildOne(spec(members, 'maglev-v1'), 1021);
			const beyond = built.members.map((m, rank) => (counts[rank] ?? 0) - m.weight);
			assert.ok(Math.max(...beyond) - Math.min(...beyond) <= 1, `${counts}`);
		}),
		{ numRuns: 100 },
	);
});

test('of two addresses with one hash the lower takes its turn first', async () => {
	const [low, high] = [address('10.0.126.0'), address('10.0.128.254')];
	const hash = endpointHash(low);
	assert.equal(endpointHash(high), hash);
	const { offset, skip } = permutationOf(hash, 65537);
	for (const order of [
		[low, high],
		[high, low],
	]) {
		const ring = await buildOne(spec(order.map((a) => ({ address: a, weight: 1 }))), 65537);
		assert.deepEqual([ring.slots[offset], ring.slots[(offset + skip) % 65537]], [0, 1]);
	}
});

test('a walk that would never end takes the last slot', () => {
	// Hash 156164 has stride 65536 of 65537 slots: the wrap at 2^32 keeps it from its last slot for ever.
	const input: RingInput = { version: 2, hashes: new BigUint64Array([156164n, 1n]), weights: new Uint32Array([65535, 1]) };
	const ring = buildReferenceRing(input, 65537);
	assert.equal(ring.filter((m) => m === 1).length, 1);
});

test('an empty spec gives an empty ring without a digest', async () => {
	const ring = await buildOne(spec([]), 7);
	assert.deepEqual([ring.slots.length, ring.counts.length, ring.digest], [0, 0, null]);
});

test('rings come back in the order of their specs, empty ones between', async () => {
	const specs = Array.from({ length: 70 }, (_, i) => ({
		...spec(i % 3 === 0 ? [] : [{ address: address(`10.0.0.${i}`), weight: 1 }]),
		pool: `p${i}`,
	}));
	const rings = await new RingFactory(referenceRingBuilder, 7).build(specs);
	assert.deepEqual(
		rings.map((r) => [r.spec.pool, r.slots.length, r.spec.members[0]?.address]),
		specs.map((s) => [s.pool, s.members.length * 7, s.members[0]?.address]),
	);
});

test('an address twice, or a weight outside 1 to 65535, is refused', async () => {
	const a = address('10.0.0.1');
	await assert.rejects(
		buildOne(
			spec([
				{ address: a, weight: 1 },
				{ address: a, weight: 2 },
			]),
			7,
		),
		/pool web has 10\.0\.0\.1 twice/,
	);
	for (const weight of [0, -1, 1.5, 65536, Number.NaN])
		await assert.rejects(buildOne(spec([{ address: a, weight }]), 7), /a ring takes 1 to 65535/);
});

test('a size that is no prime above 2 is refused', () => {
	const input: RingInput = { version: 1, hashes: new BigUint64Array([1n]), weights: new Uint32Array([1]) };
	for (const size of [0, 1, 2, 4, 65536, 7.5, -7]) assert.throws(() => buildReferenceRing(input, size), RangeError, `${size}`);
});

test('no members, or another number of weights, are refused', () => {
	const none: RingInput = { version: 1, hashes: new BigUint64Array(0), weights: new Uint32Array(0) };
	assert.throws(() => buildReferenceRing(none, 7), RangeError);
	assert.throws(() => buildReferenceRing({ ...none, hashes: new BigUint64Array(2), weights: new Uint32Array(1) }, 7), RangeError);
});
