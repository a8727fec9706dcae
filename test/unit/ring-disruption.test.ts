// SPDX-License-Identifier: Apache-2.0
// How many slots a change moves. The figures for numbered members are those that Katran's own tests expect.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { RingMember, RingSpec } from '../../src/datapath/datapath.ts';
import { address } from '../../src/model/address.ts';
import { disruption } from '../../src/ring/disruption.ts';
import { buildReferenceRing } from '../../src/ring/maglev.ts';
import { RingFactory, referenceRingBuilder } from '../../src/ring/ring.ts';

const SIZE = 65537;

/** A ring of members numbered by their hashes. */
function numbered(version: 1 | 2, members: readonly (readonly [number: number, weight: number])[]): Uint16Array {
	return buildReferenceRing(
		{
			version,
			hashes: BigUint64Array.from(members, ([n]) => BigInt(n)),
			weights: Uint32Array.from(members, ([, w]) => w),
			ranks: Uint16Array.from(members, ([n]) => n),
		},
		SIZE,
	);
}
const differing = (a: Uint16Array, b: Uint16Array) => a.reduce((n, x, i) => n + (x === b[i] ? 0 : 1), 0);
const hundred = (weight: number, from = 0) => Array.from({ length: 100 - from }, (_, i) => [i + from, weight] as const);

for (const [version, removed, all, one] of [
	[1, 1009, 17, 109],
	[2, 1020, 0, 1013],
] as const) {
	test(`v${version}: one of 100 members leaving moves ${removed} slots, all weights growing ${all}, one doubling ${one}`, () => {
		const base = numbered(version, hundred(10));
		assert.equal(differing(base, numbered(version, hundred(10, 1))), removed);
		const grown = numbered(version, hundred(13));
		assert.equal(differing(base, grown), all);
		assert.equal(differing(grown, numbered(version, [[0, 26], ...hundred(13, 1)])), one);
	});
}

const spec = (members: readonly RingMember[]): RingSpec => ({ pool: 'web', hash: 'maglev-v2', members });
const member = (n: number, weight = 1): RingMember => ({ address: address(`10.0.0.${n}`), weight });
async function between(before: readonly RingMember[], after: readonly RingMember[], size = SIZE) {
	const [a, b] = await new RingFactory(referenceRingBuilder, size).build([spec(before), spec(after)]);
	assert.ok(a && b);
	return { ...disruption(a, b), a, b };
}

test('an unchanged ring moves nothing', async () => {
	const { moved, unavoidable } = await between([member(1), member(2)], [member(2), member(1)]);
	assert.deepEqual([moved, unavoidable], [0, 0]);
});

test('a backend that leaves gives up its slots: these are unavoidable, few others move', async () => {
	const { moved, unavoidable, a } = await between([member(1), member(2), member(3)], [member(1), member(3)]);
	assert.equal(unavoidable, a.counts[1]);
	assert.ok(moved >= unavoidable && moved < 1.5 * unavoidable, `${moved} moved`);
});

test('a backend that joins takes its share from the others', async () => {
	const { moved, unavoidable, b } = await between([member(1), member(2)], [member(1), member(2), member(3)]);
	assert.equal(unavoidable, b.counts[2]);
	assert.ok(moved >= unavoidable, `${moved} moved`);
});

test('a backend is known by its address, not by its rank', async () => {
	// 10.0.0.1 leaves, so every other backend's rank changes.
	const { moved, a } = await between([member(1), member(2), member(3), member(4)], [member(2), member(3), member(4)]);
	assert.ok(moved < 2 * (a.counts[0] ?? 0), `${moved} moved`);
});

test('a ring that empties loses all its slots, an empty one has none to lose', async () => {
	const gone = await between([member(1)], [], 7);
	assert.deepEqual([gone.moved, gone.unavoidable], [7, 7]);
	const first = await between([], [member(1)], 7);
	assert.deepEqual([first.moved, first.unavoidable], [0, 0]);
});

test('rings of two sizes are not compared', async () => {
	const [a] = await new RingFactory(referenceRingBuilder, 7).build([spec([member(1)])]);
	const [b] = await new RingFactory(referenceRingBuilder, 5).build([spec([member(1)])]);
	assert.ok(a && b);
	assert.throws(() => disruption(a, b), RangeError);
});

test('no more is unavoidable than has moved', async () => {
	const members = fc
		.uniqueArray(fc.tuple(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 5 })), { selector: ([n]) => n })
		.map((list) => list.map(([n, w]) => member(n, w)));
	await fc.assert(
		fc.asyncProperty(members, members, async (before, after) => {
			const { moved, unavoidable } = await between(before, after, 251);
			assert.ok(unavoidable <= moved, `${unavoidable} of ${moved}`);
		}),
		{ numRuns: 200 },
	);
});
