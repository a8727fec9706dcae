// SPDX-License-Identifier: Apache-2.0
// Ids are dense, and an id comes back only after its quarantine, oldest first.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IdAllocator } from '../../src/datapath/id-allocator.ts';
import { isXdpilotError } from '../../src/errors.ts';

const hasCode = (code: string) => (e: unknown) => isXdpilotError(e) && e.code === code;

test('ids are dense and start at 1', () => {
	const ids = new IdAllocator(3, 'vip');
	assert.deepEqual([ids.take(), ids.take(), ids.take()], [1, 2, 3]);
	assert.throws(() => ids.take(), hasCode('E_LIMIT'));
});

test('an id in quarantine is not handed out, a released one is', () => {
	const ids = new IdAllocator(2, 'backend');
	const first = ids.take();
	ids.take();
	ids.retire(first);
	assert.throws(() => ids.take(), hasCode('E_LIMIT'));
	ids.release(first);
	assert.equal(ids.take(), first);
});

test('ids that were never used go first, then the one that was freed first', () => {
	const ids = new IdAllocator(4, 'backend');
	ids.take();
	ids.take();
	for (const id of [2, 1]) {
		ids.retire(id);
		ids.release(id);
	}
	assert.deepEqual([ids.take(), ids.take(), ids.take(), ids.take()], [3, 4, 2, 1]);
});

test('claimed ids are never handed out, and those below them are', () => {
	const ids = new IdAllocator(5, 'backend');
	ids.claim(4);
	ids.claim(2);
	assert.equal(ids.occupied, 2);
	assert.deepEqual([ids.take(), ids.take(), ids.take()], [5, 1, 3]);
	assert.throws(() => ids.take(), hasCode('E_LIMIT'));
});

test('an id out of range or claimed twice is refused', () => {
	const ids = new IdAllocator(5, 'backend');
	ids.claim(5);
	for (const id of [0, 6, 5, 1.5]) assert.throws(() => ids.claim(id), hasCode('E_DATAPATH'));
});

test('an id can not be released without quarantine, nor retired without use', () => {
	const ids = new IdAllocator(5, 'backend');
	const id = ids.take();
	assert.throws(() => ids.release(id), hasCode('E_INTERNAL'));
	assert.throws(() => ids.retire(3), hasCode('E_INTERNAL'));
});
