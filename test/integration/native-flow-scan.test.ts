// SPDX-License-Identifier: Apache-2.0
// Scans of a flow table, on plain memory: an entry's second word is vip 16 | backend 23 | established 1 | time 24 bits.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { loadNative, type NativeAddon } from '../../src/native/binding.ts';
import { whyNoAddon } from '../support/native-fixtures.ts';

const skip = whyNoAddon();
const BACKEND = 0x7fffffn << 16n;

interface Entry {
	readonly vip: number;
	readonly backend: number;
	readonly established?: boolean;
	readonly time?: number;
}
const word1 = ({ vip, backend, established = false, time = 0 }: Entry) =>
	BigInt(vip) | (BigInt(backend) << 16n) | (established ? 1n << 39n : 0n) | (BigInt(time) << 40n);
/** A table of these entries; null = empty. Word 0 is a mark that no scan may touch. */
const tableOf = (entries: readonly (Entry | null)[]) => {
	const words = new BigUint64Array(2 * entries.length).fill(0xabcdn);
	for (const [i, entry] of entries.entries()) words[2 * i + 1] = entry ? word1(entry) : 0n;
	return words;
};
const live = (words: BigUint64Array) => [...words].flatMap((w, i) => (i % 2 === 1 && w !== 0n ? [(i - 1) / 2] : []));

describe('flow scans', { skip }, () => {
	let native: NativeAddon;
	before(() => {
		native = loadNative();
	});

	test('a sweep clears the entries of the backends named, and no others', async () => {
		const table = tableOf([
			{ vip: 1, backend: 5 },
			{ vip: 2, backend: 5, established: true, time: 77 },
			{ vip: 1, backend: 6 },
			null,
			{ vip: 5, backend: 0x7fffff },
			{ vip: 9, backend: 9 },
		]);
		const values = BigUint64Array.of(0x7fffffn << 16n, 5n << 16n);
		assert.equal(await native.sweepFlowsAsync(table.buffer as ArrayBuffer, BACKEND, values), 3);
		assert.deepEqual(live(table), [2, 5]);
		assert.ok(table.every((w, i) => i % 2 === 1 || w === 0xabcdn));
	});

	test('a sweep may name a vip as well, and value 0 is no empty entry', async () => {
		const table = tableOf([{ vip: 1, backend: 5 }, null, { vip: 0, backend: 5 }]);
		assert.equal(await native.sweepFlowsAsync(table.buffer as ArrayBuffer, 0xffffn, BigUint64Array.of(0n)), 1);
		assert.deepEqual(live(table), [0]);
		assert.equal(await native.sweepFlowsAsync(table.buffer as ArrayBuffer, 0xffffn, new BigUint64Array(0)), 0);
	});

	test('entries older than the limit expire, also where the clock has wrapped', async () => {
		const at = (time: number) => ({ vip: 1, backend: 1, time });
		const now = 100;
		const table = tableOf([at(100), at(90), at(89), at(2 ** 24 - 1), at(150), at(4196)]);
		assert.equal(await native.expireFlowsAsync(table.buffer as ArrayBuffer, now, 10), 2);
		assert.deepEqual(live(table), [0, 1, 4, 5], 'entries up to 4096 ticks ahead are fresh: packets go on while the table is scanned');
		const ahead = tableOf([at(100 + 4097)]);
		assert.equal(await native.expireFlowsAsync(ahead.buffer as ArrayBuffer, now, 10), 1);
	});

	test('live entries are counted by backend', async () => {
		const table = tableOf([
			{ vip: 1, backend: 2 },
			{ vip: 2, backend: 2, time: 9 },
			null,
			{ vip: 1, backend: 0 },
			{ vip: 1, backend: 400 },
		]);
		assert.deepEqual(await native.countFlowsAsync(table.buffer as ArrayBuffer, 4), Uint32Array.of(1, 0, 2, 0));
		assert.deepEqual(await native.countFlowsAsync(new ArrayBuffer(0), 0), new Uint32Array(0));
	});

	test('a large table is scanned whole', async () => {
		const count = 1 << 20;
		const words = new BigUint64Array(2 * count);
		for (let i = 0; i < count; i++) words[2 * i + 1] = word1({ vip: 1, backend: i % 1000 });
		const buffer = words.buffer as ArrayBuffer;
		const counts = await native.countFlowsAsync(buffer, 1000);
		assert.equal(
			counts.reduce((a, b) => a + b, 0),
			count,
		);
		const odd = BigUint64Array.from({ length: 500 }, (_, i) => BigInt(2 * i + 1) << 16n);
		assert.equal(await native.sweepFlowsAsync(buffer, BACKEND, odd), count - counts.reduce((n, c, i) => (i % 2 === 0 ? n + c : n), 0));
		assert.ok((await native.countFlowsAsync(buffer, 1000)).every((c, i) => c > 0 === (i % 2 === 0)));
	});

	test('what is no table is refused', async () => {
		const wrong = (x: unknown) => x as never;
		for (const call of [
			() => native.countFlowsAsync(new ArrayBuffer(17), 1),
			() => native.countFlowsAsync(wrong(new Uint8Array(16)), 1),
			() => native.countFlowsAsync(new ArrayBuffer(16), 2 ** 23 + 1),
			() => native.sweepFlowsAsync(new ArrayBuffer(16), wrong(1), new BigUint64Array(0)),
			() => native.sweepFlowsAsync(new ArrayBuffer(16), -1n, new BigUint64Array(0)),
			() => native.sweepFlowsAsync(new ArrayBuffer(16), 1n << 64n, new BigUint64Array(0)),
			() => native.sweepFlowsAsync(new ArrayBuffer(16), 1n, wrong([1n])),
			() => native.expireFlowsAsync(new ArrayBuffer(16), -1, 1),
			() => native.expireFlowsAsync(new ArrayBuffer(16), 1, wrong(undefined)),
		])
			await assert.rejects(call(), TypeError, String(call));
	});
});
