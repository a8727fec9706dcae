// SPDX-License-Identifier: Apache-2.0
// Whole rings against what Katran's own sources build from the same hashes and weights: SHA-256 over all slots, each a
// little-endian u32, the first slots, and what each member got. Members are numbered from `first`.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { address } from '../../src/model/address.ts';
import { endpointHash } from '../../src/ring/hash.ts';
import { buildReferenceRing } from '../../src/ring/maglev.ts';
import { type KnownRing, knownRings } from '../support/known-rings.ts';

/** The slots of a known ring as numbers of its members, by `build`, which takes members in order of their hashes. */
function slotsOf(known: KnownRing): Uint32Array {
	const members = known.hashes.map((hash, i) => ({ hash, number: known.first + i, weight: known.weights[i % known.weights.length] ?? 0 }));
	members.sort((a, b) => (a.hash < b.hash ? -1 : a.hash > b.hash ? 1 : 0));
	const ring = buildReferenceRing(
		{
			version: known.version,
			hashes: BigUint64Array.from(members, (m) => m.hash),
			weights: Uint32Array.from(members, (m) => m.weight),
			ranks: Uint16Array.from(members, (m) => m.number),
		},
		known.size,
	);
	return Uint32Array.from(ring);
}

for (const known of knownRings()) {
	test(`v${known.version}: ${known.name}`, () => {
		const slots = slotsOf(known);
		assert.deepEqual([...slots.subarray(0, known.head.length)], known.head);
		const counts = known.counts.map((_, i) => slots.reduce((n, m) => n + (m === known.first + i ? 1 : 0), 0));
		assert.deepEqual(counts, known.counts);
		assert.equal(createHash('sha256').update(new Uint8Array(slots.buffer)).digest('hex'), known.sha256);
	});
}

test('members of both families stand in the known order', () => {
	const hosts = ['10.0.0.1', '10.0.0.2', '10.0.0.3', 'fc00::1', 'fc00::2', 'fc00::3'].map(address);
	const order = [...hosts].sort((a, b) => (endpointHash(a) < endpointHash(b) ? -1 : 1));
	assert.deepEqual(order, ['fc00::3', '10.0.0.2', 'fc00::1', '10.0.0.3', 'fc00::2', '10.0.0.1']);
});
