// SPDX-License-Identifier: Apache-2.0
// How slot moves are counted when a demo holds a ring change against what Maglev costs.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { slotMoves } from '../../src/demo/ring-expectation.ts';

test('counts slots that changed, and those that no table could have kept', () => {
	const before = Uint16Array.of(0, 0, 1, 1, 2, 2);
	assert.deepEqual(slotMoves(before, before), { moved: 0, unavoidable: 0 });
	assert.deepEqual(slotMoves(before, Uint16Array.of(0, 0, 1, 1, 0, 1)), { moved: 2, unavoidable: 2 });
	assert.deepEqual(slotMoves(before, Uint16Array.of(1, 0, 0, 1, 0, 1)), { moved: 4, unavoidable: 2 });
	assert.deepEqual(slotMoves(before, Uint16Array.of(3, 0, 1, 1, 2, 2)), { moved: 1, unavoidable: 1 });
});
