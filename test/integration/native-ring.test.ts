// SPDX-License-Identifier: Apache-2.0
// The native ring builder against the known rings and, slot by slot, against the reference.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { before, describe, test } from 'node:test';
import fc from 'fast-check';
import { address } from '../../src/model/address.ts';
import type { RingInput } from '../../src/native/addon.d.ts';
import { loadNative, type NativeAddon } from '../../src/native/binding.ts';
import { buildReferenceRing } from '../../src/ring/maglev.ts';
import { nativeRingBuilder, RingFactory, referenceRingBuilder } from '../../src/ring/ring.ts';
import { knownRings } from '../support/known-rings.ts';
import { whyNoAddon } from '../support/native-fixtures.ts';

const skip = whyNoAddon();
// Below and above 65537, where sums wrap early; just around the 128 free slots at which the builder changes its method.
const SIZES = [3, 5, 7, 127, 131, 257, 4093, 65521, 65537, 65539, 131071];

const anyInput: fc.Arbitrary<RingInput> = fc
	.record({
		version: fc.constantFrom(1, 2),
		members: fc.array(fc.tuple(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.nat()), { minLength: 1, maxLength: 60 }),
		heaviest: fc.constantFrom(1, 2, 10, 65535),
	})
	.map(({ version, members, heaviest }) => ({
		version,
		hashes: BigUint64Array.from(members, ([hash]) => hash),
		weights: Uint32Array.from(members, ([, n]) => (n % heaviest) + 1),
	}));

describe('the native ring builder', { skip }, () => {
	let native: NativeAddon;
	before(() => {
		native = loadNative();
	});

	test('gives every known ring', async () => {
		for (const known of knownRings()) {
			const order = [...known.hashes.keys()].sort((a, b) => ((known.hashes[a] ?? 0n) < (known.hashes[b] ?? 0n) ? -1 : 1));
			const ring = native.buildRing(
				{
					version: known.version,
					hashes: BigUint64Array.from(order, (i) => known.hashes[i] ?? 0n),
					weights: Uint32Array.from(order, (i) => known.weights[i % known.weights.length] ?? 0),
					ranks: Uint16Array.from(order, (i) => known.first + i),
				},
				known.size,
			);
			const digest = createHash('sha256')
				.update(new Uint8Array(Uint32Array.from(ring).buffer))
				.digest('hex');
			assert.equal(digest, known.sha256, `v${known.version}: ${known.name}`);
		}
	});

	test('agrees with the reference, slot by slot', () => {
		fc.assert(
			fc.property(anyInput, fc.constantFrom(...SIZES), (input, size) => {
				assert.deepEqual(native.buildRing(input, size), buildReferenceRing(input, size));
			}),
			{ numRuns: 150 },
		);
	});

	test('agrees where a walk wraps at 2^32 before its end', () => {
		// Stride 65536 of 65537 slots, with so much weight that it needs its very last step.
		for (const hash of [156164n, 216991n])
			for (const version of [1, 2])
				for (const weights of [
					[65535, 1],
					[1, 65535],
					[1, 1],
				]) {
					const input = { version, hashes: BigUint64Array.of(hash, 1n), weights: Uint32Array.from(weights) };
					assert.deepEqual(native.buildRing(input, 65537), buildReferenceRing(input, 65537));
				}
	});

	test('agrees for as many members as slots, and for more', () => {
		for (const count of [127, 500]) {
			const hashes = BigUint64Array.from({ length: count }, (_, i) => BigInt(i * 7919));
			for (const version of [1, 2]) {
				const input = { version, hashes, weights: Uint32Array.from({ length: count }, (_, i) => (i % 3) + 1) };
				assert.deepEqual(native.buildRing(input, 127), buildReferenceRing(input, 127));
			}
		}
	});

	test('builds many rings at once, each in its place', async () => {
		const inputs = Array.from({ length: 50 }, (_, i) => ({
			version: (i % 2) + 1,
			hashes: BigUint64Array.from({ length: i + 1 }, (_, n) => BigInt(i * 1000 + n)),
			weights: new Uint32Array(i + 1).fill(1),
		}));
		const rings = await native.buildRingsAsync(inputs, 4093);
		assert.deepEqual(
			rings,
			inputs.map((input) => buildReferenceRing(input, 4093)),
		);
		assert.deepEqual(await native.buildRingsAsync([], 4093), []);
	});

	test('leaves the event loop free while it builds', async () => {
		const input = { version: 2, hashes: BigUint64Array.from({ length: 100 }, (_, i) => BigInt(i)), weights: new Uint32Array(100).fill(1) };
		let turns = 0;
		let building = true;
		const count = () => {
			turns++;
			if (building) setImmediate(count);
		};
		setImmediate(count);
		await native.buildRingsAsync(
			Array.from({ length: 50 }, () => input),
			65537,
		);
		building = false;
		assert.ok(turns > 5, `${turns} turns while 50 rings were built`);
	});

	test('takes its input at the time of the call', async () => {
		const hashes = BigUint64Array.of(1n, 2n, 3n);
		const weights = Uint32Array.of(1, 1, 1);
		const expected = buildReferenceRing({ version: 2, hashes, weights }, 65537);
		const building = native.buildRingsAsync([{ version: 2, hashes, weights }], 65537);
		hashes.fill(0n);
		weights.fill(9);
		assert.deepEqual(await building, [expected]);
	});

	test('makes the same rings for a factory as the reference does', async () => {
		const specs = [1, 2, 40].map((n) => ({
			pool: `p${n}`,
			hash: 'maglev-v2' as const,
			members: Array.from({ length: n }, (_, i) => ({ address: address(`10.0.${n}.${i}`), weight: i + 1 })),
		}));
		const [a, b] = await Promise.all([
			new RingFactory(nativeRingBuilder(native), 65537).build(specs),
			new RingFactory(referenceRingBuilder, 65537).build(specs),
		]);
		assert.deepEqual(
			a.map((r) => r.digest),
			b.map((r) => r.digest),
		);
	});

	test('refuses what would never end or not fit', async () => {
		const good: RingInput = { version: 1, hashes: BigUint64Array.of(1n), weights: Uint32Array.of(1) };
		const wrong: [unknown, unknown][] = [
			[good, 0],
			[good, 2],
			[good, 65536],
			[good, -7],
			[good, undefined],
			[{ ...good, version: 3 }, 7],
			[{ ...good, version: '1' }, 7],
			[{ ...good, hashes: new BigUint64Array(0), weights: new Uint32Array(0) }, 7],
			[{ ...good, hashes: new BigUint64Array(65536), weights: new Uint32Array(65536).fill(1) }, 7],
			[{ ...good, hashes: [1n] }, 7],
			[{ ...good, hashes: new BigInt64Array(1) }, 7],
			[{ ...good, weights: Uint32Array.of(1, 1) }, 7],
			[{ ...good, weights: Uint32Array.of(0) }, 7],
			[{ ...good, weights: Uint32Array.of(65536) }, 7],
			[{ ...good, weights: new Float64Array(1).fill(1) }, 7],
			[{ ...good, ranks: new Uint16Array(2) }, 7],
			[{ ...good, ranks: new Uint32Array(1) }, 7],
			[undefined, 7],
		];
		for (const [input, size] of wrong) {
			assert.throws(() => native.buildRing(input as RingInput, size as number), TypeError);
			await assert.rejects(native.buildRingsAsync([input as RingInput], size as number), TypeError);
		}
		await assert.rejects(native.buildRingsAsync(good as never, 7), TypeError);
	});
});
