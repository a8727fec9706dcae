// SPDX-License-Identifier: Apache-2.0
// Where a flow lands on a ring, against positions computed with Katran's hash and seeds, and the backends that those
// rings have there.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { address, addressBytes } from '../../src/model/address.ts';
import { flowHash, flowSlot, jhashAddress, KATRAN_SEEDS } from '../../src/ring/flow-hash.ts';
import { RingFactory, referenceRingBuilder } from '../../src/ring/ring.ts';

const input = (source: string, sourcePort: number, destPort: number) => ({
	source: addressBytes(address(source)),
	sourcePort,
	destPort,
});

/** [source, source port, destination port, hash, slot of 65537] */
const POSITIONS: [string, number, number, number, number][] = [
	['192.168.1.1', 31337, 80, 0xc7e68632, 48717],
	['192.168.1.1', 31337, 0, 0x01c79de1, 39962],
	['192.168.1.1', 0, 80, 0x979353bd, 48171],
	['192.168.1.42', 31337, 443, 0x900ba7c9, 6078],
	['10.1.2.3', 12345, 8080, 0x8072469e, 50733],
	['0.0.0.0', 42, 42, 0xdf5e9469, 46348],
	['fc00:2::1', 31337, 80, 0x9c5a2eda, 37505],
	['fc00:2::1', 31337, 0, 0x994775fc, 56502],
	['fc00:2::42', 31337, 443, 0xd7277f14, 42990],
	['2001:db8::1', 12345, 443, 0xe8fcaa1e, 49443],
	['::', 443, 443, 0x1aef79fc, 24333],
];

test('a flow has the known hash and slot', () => {
	for (const [source, sport, dport, hash, slot] of POSITIONS) {
		assert.equal(flowHash(input(source, sport, dport), KATRAN_SEEDS), hash, source);
		assert.equal(flowSlot(input(source, sport, dport), 65537, KATRAN_SEEDS), slot, source);
	}
});

test('an IPv6 address folds into the known word', () => {
	for (const [text, hash] of [
		['fc00:2::1', 0xbf179e70],
		['fc00:2::42', 0x153c875d],
		['2001:db8::1', 0xac2327f2],
		['::', 0xfccf6f67],
	] as const)
		assert.equal(jhashAddress(addressBytes(address(text)), KATRAN_SEEDS.address6), hash, text);
});

test('seeds change the slot', () => {
	const flow = input('10.1.2.3', 12345, 8080);
	assert.notEqual(flowHash(flow, { ...KATRAN_SEEDS, flow: 1 }), flowHash(flow, KATRAN_SEEDS));
	const flow6 = input('2001:db8::1', 12345, 8080);
	assert.notEqual(flowHash(flow6, { ...KATRAN_SEEDS, address6: 1 }), flowHash(flow6, KATRAN_SEEDS));
});

test('an address of neither family is refused', () => {
	assert.throws(() => flowHash({ source: new Uint8Array(5), sourcePort: 1, destPort: 1 }, KATRAN_SEEDS), TypeError);
});

/** [source, source port, destination port, slot, backend of three IPv4 ones, backend of three IPv6 ones] */
const CHOICES: [string, number, number, number, string | null, string][] = [
	['192.168.1.1', 31337, 80, 48717, '10.0.0.3', 'fc00::1'],
	['192.168.1.1', 31337, 0, 39962, '10.0.0.2', 'fc00::2'],
	['192.168.1.1', 31337, 443, 44923, '10.0.0.3', 'fc00::3'],
	['192.168.1.42', 31337, 443, 6078, '10.0.0.2', 'fc00::1'],
	['192.168.1.100', 31337, 0, 1060, '10.0.0.1', 'fc00::3'],
	['0.0.0.0', 0, 42, 32964, '10.0.0.1', 'fc00::3'],
	['0.0.0.0', 42, 42, 46348, '10.0.0.2', 'fc00::3'],
	['0.0.0.0', 2307, 2307, 4405, '10.0.0.1', 'fc00::2'],
	['0.0.0.0', 0, 0, 5760, '10.0.0.3', 'fc00::2'],
	['172.16.0.1', 31337, 80, 43349, '10.0.0.2', 'fc00::2'],
	['fc00:2::1', 31337, 80, 37505, null, 'fc00::3'],
	['fc00:1::1', 31337, 80, 49003, null, 'fc00::3'],
	['::', 42, 42, 63290, null, 'fc00::2'],
	['fc00:2::42', 31337, 443, 42990, null, 'fc00::1'],
	['fc00:2::1', 31337, 0, 56502, null, 'fc00::1'],
];

test('hash, ring and endpoint hash together choose the known backend', async () => {
	const of = (...texts: string[]) => texts.map((t) => ({ address: address(t), weight: 1 }));
	const [v4, v6] = await new RingFactory(referenceRingBuilder, 65537).build([
		{ pool: 'v4', hash: 'maglev-v1', members: of('10.0.0.1', '10.0.0.2', '10.0.0.3') },
		{ pool: 'v6', hash: 'maglev-v1', members: of('fc00::1', 'fc00::2', 'fc00::3') },
	]);
	assert.ok(v4 && v6);
	for (const [source, sport, dport, slot, backend4, backend6] of CHOICES) {
		const at = flowSlot(input(source, sport, dport), 65537, KATRAN_SEEDS);
		assert.equal(at, slot, source);
		if (backend4) assert.equal(v4.spec.members[v4.slots[at] ?? -1]?.address, backend4, source);
		assert.equal(v6.spec.members[v6.slots[at] ?? -1]?.address, backend6, source);
	}
});
