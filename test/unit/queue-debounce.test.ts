// SPDX-License-Identifier: Apache-2.0
// The queue on a virtual clock: debounce, its cap, and the four promises of a work queue.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { sleep } from '../../src/env.ts';
import { DirtyQueue } from '../../src/reconcile/queue.ts';
import { VirtualEnv } from '../support/virtual-env.ts';

const DEFAULT = { quiet: 50, max: 500 };

interface Run {
	readonly at: number;
	readonly keys: readonly string[];
}

/** A queue whose rounds take `roundMs`, and what it ran, in milliseconds since its creation. */
function recorded(roundMs = 0, concurrency = 1) {
	const env = new VirtualEnv();
	const start = env.now();
	const runs: Run[] = [];
	const errors: unknown[] = [];
	let fail = false;
	const queue = new DirtyQueue({
		env,
		concurrency,
		run: async (keys) => {
			runs.push({ at: env.now() - start, keys: [...keys].sort() });
			if (roundMs > 0) await sleep(env, roundMs);
			if (fail) throw new Error('boom');
		},
		onError: (e) => errors.push(e),
	});
	return {
		env,
		queue,
		runs,
		errors,
		failFromNow: () => {
			fail = true;
		},
	};
}

test('one change waits for the quiet window', async () => {
	const { env, queue, runs } = recorded();
	queue.add('web', DEFAULT);
	await env.advance(49);
	assert.deepEqual(runs, []);
	await env.advance(1);
	assert.deepEqual(runs, [{ at: 50, keys: ['web'] }]);
	assert.equal(env.pendingTimers, 0);
});

test('each further change pushes the quiet window', async () => {
	const { env, queue, runs } = recorded();
	queue.add('web', DEFAULT);
	await env.advance(30);
	queue.add('web', DEFAULT);
	await env.advance(30);
	queue.add('web', DEFAULT);
	await env.advance(500);
	assert.deepEqual(runs, [{ at: 110, keys: ['web'] }]);
});

test('constant churn faster than the quiet window is applied at the cap, again and again', async () => {
	const { env, queue, runs } = recorded();
	for (let t = 0; t < 2000; t += 10) {
		queue.add('web', DEFAULT);
		await env.advance(10);
	}
	assert.deepEqual(
		runs.map((r) => r.at),
		[500, 1000, 1500, 2000],
	);
});

test('an urgent change runs at once and takes along what waited', async () => {
	const { env, queue, runs } = recorded();
	queue.add('web', DEFAULT);
	queue.add('api', DEFAULT);
	await env.advance(10);
	queue.add('web', DEFAULT, true);
	await env.advance(0);
	assert.deepEqual(runs, [{ at: 10, keys: ['web'] }]);
	await env.advance(500);
	assert.deepEqual(runs[1], { at: 50, keys: ['api'] });
	assert.equal(runs.length, 2);
});

test('news after an urgent change does not make it wait again', async () => {
	const { env, queue, runs } = recorded();
	queue.add('web', DEFAULT, true);
	queue.add('web', DEFAULT);
	await env.advance(0);
	assert.deepEqual(runs, [{ at: 0, keys: ['web'] }]);
});

test('what is reported in one breath goes into one round', async () => {
	const { env, queue, runs } = recorded();
	for (const key of ['a', 'b', 'c']) queue.add(key, { quiet: 0, max: 0 });
	await env.advance(0);
	assert.deepEqual(runs, [{ at: 0, keys: ['a', 'b', 'c'] }]);
});

test('a key that changes while it runs runs again, and not twice at once', async () => {
	const { env, queue, runs } = recorded(100, 4);
	queue.add('web', DEFAULT, true);
	await env.advance(10);
	queue.add('web', DEFAULT, true);
	queue.add('web', DEFAULT, true);
	await env.advance(80);
	assert.equal(runs.length, 1);
	await env.advance(200);
	assert.deepEqual(runs, [
		{ at: 0, keys: ['web'] },
		{ at: 100, keys: ['web'] },
	]);
});

test('what arrives during a round joins the next one', async () => {
	const { env, queue, runs } = recorded(100);
	queue.add('a', DEFAULT, true);
	await env.advance(10);
	queue.add('b', DEFAULT, true);
	await env.advance(10);
	queue.add('c', DEFAULT, true);
	await env.advance(500);
	assert.deepEqual(runs, [
		{ at: 0, keys: ['a'] },
		{ at: 100, keys: ['b', 'c'] },
	]);
});

test('a dropped key does not run', async () => {
	const { env, queue, runs } = recorded();
	queue.add('web', DEFAULT);
	queue.drop('web');
	await env.advance(1000);
	assert.deepEqual(runs, []);
	assert.equal(queue.size, 0);
});

test('a round that fails ends nothing', async () => {
	const { env, queue, runs, errors, failFromNow } = recorded();
	failFromNow();
	queue.add('web', DEFAULT, true);
	await env.advance(0);
	queue.add('web', DEFAULT, true);
	await env.advance(0);
	assert.equal(runs.length, 2);
	assert.equal(errors.length, 2);
});

test('closing waits for the running round and starts no other', async () => {
	const { env, queue, runs } = recorded(100);
	queue.add('a', DEFAULT, true);
	await env.advance(10);
	queue.add('b', DEFAULT, true);
	let closed = false;
	const closing = queue.close().then(() => {
		closed = true;
	});
	await env.advance(80);
	assert.equal(closed, false);
	await env.advance(20);
	await closing;
	queue.add('c', DEFAULT, true);
	await env.advance(1000);
	assert.deepEqual(runs, [{ at: 0, keys: ['a'] }]);
	assert.equal(env.pendingTimers, 0);
});

test('under any churn no change is lost, none waits past its cap plus two rounds, and no key runs twice at once', async () => {
	const step = fc.record({ key: fc.constantFrom('a', 'b', 'c'), wait: fc.nat(120), urgent: fc.boolean() });
	await fc.assert(
		fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 60 }), fc.nat(80), async (steps, roundMs) => {
			const env = new VirtualEnv();
			const running = new Set<string>();
			const dirtySince = new Map<string, number>();
			let worst = 0;
			const queue = new DirtyQueue({
				env,
				run: async (keys) => {
					for (const key of keys) {
						assert.ok(!running.has(key));
						running.add(key);
						worst = Math.max(worst, env.now() - (dirtySince.get(key) ?? env.now()));
						dirtySince.delete(key);
					}
					if (roundMs > 0) await sleep(env, roundMs);
					for (const key of keys) running.delete(key);
				},
				onError: (e) => assert.fail(String(e)),
			});
			for (const { key, wait, urgent } of steps) {
				if (!dirtySince.has(key)) dirtySince.set(key, env.now());
				queue.add(key, DEFAULT, urgent);
				await env.advance(wait);
			}
			await env.advance(2000);
			assert.equal(dirtySince.size, 0);
			assert.equal(queue.size, 0);
			assert.ok(worst <= DEFAULT.max + 2 * roundMs, `waited ${worst} ms`);
		}),
		{ numRuns: 60 },
	);
});
