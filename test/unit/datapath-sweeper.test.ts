// SPDX-License-Identifier: Apache-2.0
// Old flows are swept on time, again after a failure, and not after the end.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FlowTable } from '../../src/datapath/flow-table.ts';
import { Sweeper } from '../../src/datapath/sweeper.ts';
import { VirtualEnv } from '../support/virtual-env.ts';

const DAY_MS = 24 * 3600 * 1000;

function sweptTable(fail: () => boolean) {
	const ages: number[] = [];
	const expire = async (seconds: number) => {
		ages.push(seconds);
		if (fail()) throw new Error('EIO');
		return 0;
	};
	return { ages, flows: { expire } as unknown as FlowTable };
}

test('the table is swept several times before the time of an entry can wrap, and a failure is told, not final', async () => {
	const env = new VirtualEnv();
	const errors: unknown[] = [];
	const { ages, flows } = sweptTable(() => ages.length === 2);
	const sweeper = new Sweeper(env, flows, (e) => errors.push(e));
	await env.advance(DAY_MS);
	assert.ok(ages.length >= 3 && ages.every((age) => age === 6 * 24 * 3600));
	assert.equal(errors.length, 1);
	await sweeper.close();
	const swept = ages.length;
	await env.advance(DAY_MS);
	assert.equal(ages.length, swept);
});
