// SPDX-License-Identifier: Apache-2.0
// How requests share the kernel's grace periods, on a map whose batches a test settles by hand and whose time is its own.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OuterMap } from '../../src/datapath/outer-map.ts';
import { isXdpilotError } from '../../src/errors.ts';
import type { BpfMap } from '../../src/native/addon.d.ts';
import { VirtualEnv } from '../support/virtual-env.ts';

interface Call {
	readonly kind: 'batch' | 'parallel';
	readonly slots: readonly number[];
	settle(error?: Error): void;
}

const numbers = (bytes: Uint8Array) => [...new Uint32Array(bytes.slice().buffer)];
const inner = (fd: number) => ({ fd }) as BpfMap;
/** Lets everything that is ready run. */
const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A map that notes what is asked of it, and takes `cost` of virtual time for the elements of a batch. */
function fakeMap(cost?: (elements: number) => number) {
	const calls: Call[] = [];
	const env = new VirtualEnv();
	const asked = (kind: Call['kind'], keys: Uint8Array) =>
		new Promise<void>((resolve, reject) => {
			const settle = (error?: Error) => (error ? reject(error) : resolve());
			calls.push({ kind, slots: numbers(keys), settle });
			if (cost) void env.advance(kind === 'batch' ? cost(keys.length / 4) : 1).then(() => resolve());
		});
	const map = {
		updateBatchAsync: (keys: Uint8Array) => asked('batch', keys),
		updateParallelAsync: (keys: Uint8Array) => asked('parallel', keys),
	} as unknown as BpfMap;
	return { calls, outer: new OuterMap(map, env, { slot: 100, inner: inner(9) }) };
}

test('what is asked for while a batch is in flight goes into the next one together', async () => {
	const { calls, outer } = fakeMap();
	const done: string[] = [];
	const put = (slot: number) => outer.put([{ slot, inner: inner(slot) }]).then(() => done.push(`put ${slot}`));
	void put(1);
	await turn();
	void put(2);
	void put(3);
	void outer.grace().then(() => done.push('grace'));
	await turn();
	assert.deepEqual(
		calls.map((c) => c.slots),
		[[1]],
	);
	calls[0]?.settle();
	await turn();
	assert.deepEqual(done, ['put 1']);
	assert.deepEqual(
		calls.map((c) => c.slots),
		[[1], [2, 3, 100]],
	);
	calls[1]?.settle();
	await outer.idle();
	assert.deepEqual(done, ['put 1', 'put 2', 'put 3', 'grace']);
});

test('a grace period asked for during a batch does not end with it: packets may have begun since', async () => {
	const { calls, outer } = fakeMap();
	void outer.put([{ slot: 1, inner: inner(1) }]);
	await turn();
	let isOver = false;
	void outer.grace().then(() => {
		isOver = true;
	});
	calls[0]?.settle();
	await turn();
	assert.equal(isOver, false);
	calls[1]?.settle();
	await outer.idle();
	assert.equal(isOver, true);
});

test('a failed batch fails those who asked, and the next one is tried', async () => {
	const { calls, outer } = fakeMap();
	const first = outer.put([{ slot: 1, inner: inner(1) }]);
	await turn();
	const second = outer.put([{ slot: 2, inner: inner(2) }]);
	calls[0]?.settle(Object.assign(new Error('ENOMEM'), { code: 'ENOMEM', errno: -12 }));
	await assert.rejects(first, (e) => isXdpilotError(e) && e.code === 'E_DATAPATH' && e.retryable);
	calls[1]?.settle();
	await second;
});

const manyWrites = Array.from({ length: 10 }, (_, slot) => ({ slot, inner: inner(slot) }));

test('where a batch waits once, large writes are one batch', async () => {
	const { calls, outer } = fakeMap(() => 8);
	await outer.put(manyWrites);
	assert.equal(calls.at(-1)?.kind, 'batch');
	assert.equal(calls.at(-1)?.slots.length, 10);
});

test('where a batch waits for each element, large writes go out in parallel; it is timed once', async () => {
	const { calls, outer } = fakeMap((elements) => 16 * elements);
	await outer.put(manyWrites);
	await outer.put(manyWrites);
	assert.deepEqual(
		calls.slice(-2).map((c) => c.kind),
		['parallel', 'parallel'],
	);
	// The timing used the scratch slots only.
	assert.ok(calls.slice(0, -2).every((c) => c.slots.every((slot) => slot >= 100)));
	await outer.put([{ slot: 1, inner: inner(1) }]);
	assert.equal(calls.at(-1)?.kind, 'batch');
});
