// SPDX-License-Identifier: Apache-2.0
// The loop from snapshots to maps, on a virtual clock.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sleep } from '../../src/env.ts';
import { address } from '../../src/model/address.ts';
import { backend, vipOf } from '../support/desired-states.ts';
import { FakeDatapath } from '../support/fake-datapath.ts';
import { faultyDatapath } from '../support/faulty-datapath.ts';
import { poolSettings, reconciling, settingsOf } from '../support/reconciling.ts';
import { admission, gone, instance, POLICY } from '../support/snapshots.ts';
import { VirtualEnv } from '../support/virtual-env.ts';

const statesOf = (fake: FakeDatapath, pool: string) =>
	[...(fake.actual().pools.get(pool)?.backends.values() ?? [])].map((b) => `${b.address} ${b.state} ${b.weight}`).sort();

test('a first answer builds pool, ring and vip, in this order', async () => {
	const { env, fake, answer, states } = reconciling(settingsOf(['web']));
	answer('web', [1, 2]);
	await env.advance(50);
	assert.deepEqual(fake.journal, ['backend web 10.0.0.1 active', 'backend web 10.0.0.2 active', 'ring web gen 1 n 2', 'vips 1']);
	assert.deepEqual(states(), ['web ok']);
});

test('a burst is one swap, and a failed check does not wait', async () => {
	const { env, fake, answer } = reconciling(settingsOf(['web']));
	answer('web', [1, 2, 3]);
	await env.advance(50);
	for (let n = 4; n < 9; n++) {
		answer('web', [1, 2, 3, n]);
		await env.advance(20);
	}
	assert.equal(fake.actual().pools.get('web')?.ring?.generation, 1);
	answer('web', [1, 2, instance(3, { state: 'down', reason: 'check-failed' })]);
	await env.advance(0);
	assert.equal(fake.actual().pools.get('web')?.ring?.generation, 2);
	assert.ok(statesOf(fake, 'web').includes('10.0.0.3 down 0'));
});

test('a restart with an unchanged registry writes no ring, no vip and no backend', async () => {
	const first = reconciling(settingsOf(['api', 'web']));
	first.answer('api', [1, 2, instance(3, { state: 'draining', reason: 'maintenance' })]);
	first.answer('web', [1, 2, instance(3, { weight: 7 })]);
	await first.env.advance(50);
	await first.reconciler.close();
	const journal = [...first.fake.journal];
	const flow = { source: address('192.0.2.1'), sourcePort: 4000, dest: address('203.0.113.1'), destPort: 443, protocol: 'tcp' } as const;
	const chosen = first.fake.send(flow);

	const second = reconciling(settingsOf(['api', 'web']), { env: first.env, fake: first.fake });
	await first.env.advance(1000);
	second.answer('web', [1, 2, instance(3, { weight: 7 })]);
	second.answer('api', [1, 2, instance(3, { state: 'draining', reason: 'maintenance' })]);
	await first.env.advance(5000);
	assert.deepEqual(first.fake.journal, journal);
	const { swaps, applied } = second.reconciler.status();
	assert.deepEqual({ swaps, applied }, { swaps: 0, applied: 0 });
	assert.equal(first.fake.send(flow), chosen);
	await first.env.advance(POLICY.drainMs);
	assert.ok(statesOf(first.fake, 'api').includes('10.0.0.3 down 0'), 'the drain of an adopted backend ends too');
});

test('nothing is pruned before the source that owns it has answered', async () => {
	const first = reconciling(settingsOf(['api', 'web']));
	first.answer('api', [1, 2]);
	first.answer('web', [1, 2]);
	await first.env.advance(50);
	await first.reconciler.close();
	const before = first.fake.journal.length;

	const second = reconciling(settingsOf(['api', 'web']), { env: first.env, fake: first.fake });
	second.sourceState = 'never';
	await first.env.advance(3_600_000);
	assert.equal(first.fake.journal.length, before);
	assert.deepEqual(second.states(), ['api stale', 'web stale']);

	second.sourceState = 'up';
	second.answer('web', [2], { absences: [] });
	await first.env.advance(50);
	assert.deepEqual(statesOf(first.fake, 'web'), ['10.0.0.1 draining 0', '10.0.0.2 active 1']);
	assert.deepEqual(statesOf(first.fake, 'api'), ['10.0.0.1 active 1', '10.0.0.2 active 1']);
	await first.env.advance(POLICY.drainMs + 50);
	assert.deepEqual(statesOf(first.fake, 'web'), ['10.0.0.2 active 1']);
});

test('after a restart a registry that lost most of a pool is held', async () => {
	const first = reconciling(settingsOf(['web']));
	first.answer('web', [1, 2, 3, 4]);
	await first.env.advance(50);
	await first.reconciler.close();
	const second = reconciling(settingsOf(['web']), { env: first.env, fake: first.fake });
	second.answer('web', []);
	await first.env.advance(1000);
	assert.deepEqual(second.states(), ['web held']);
	assert.equal(statesOf(first.fake, 'web').length, 4);
	const [pool] = second.reconciler.status().pools;
	assert.equal(pool?.hold?.removed, 4);
	assert.ok(pool?.backends.every((b) => b.note?.startsWith('kept by the guard')));
	assert.equal(pool?.hold?.until, (pool?.hold?.since ?? 0) + POLICY.holdMs);
});

test('a vip that is moved to a pool that nobody knows yet keeps its old pool until the new one is there', async () => {
	const { env, fake, reconciler, answer } = reconciling(settingsOf(['old']));
	answer('old', [1, 2]);
	await env.advance(50);
	reconciler.configure(settingsOf(['new']));
	await env.advance(1000);
	assert.equal(fake.actual().vips.get('203.0.113.1:443/tcp')?.pool, 'old');
	assert.equal(fake.actual().pools.size, 1);
	assert.match(reconciler.status().waitingVips[0]?.reason ?? '', /pool new waits for the first answer of source registry/);
	answer('new', [3]);
	await env.advance(50);
	assert.equal(fake.actual().vips.get('203.0.113.1:443/tcp')?.pool, 'new');
	assert.deepEqual([...fake.actual().pools.keys()], ['new']);
	assert.deepEqual(reconciler.status().waitingVips, []);
});

test('a vip that left the configuration is gone at once, though its source is silent', async () => {
	const { env, fake, reconciler, answer } = reconciling(settingsOf(['web'], [vipOf(1, 'web'), vipOf(2, 'web')]));
	answer('web', [1]);
	await env.advance(50);
	reconciler.configure(settingsOf(['web'], [vipOf(2, 'web')]));
	await env.advance(0);
	assert.deepEqual([...fake.actual().vips.keys()], ['203.0.113.2:443/tcp']);
});

test('a reload leaves alone what did not change', async () => {
	const { env, fake, reconciler, answer } = reconciling(settingsOf(['api', 'web']));
	answer('api', [1, 2]);
	answer('web', [1, 2]);
	await env.advance(50);
	const before = fake.journal.length;
	reconciler.configure(settingsOf(['api', 'web']));
	await env.advance(1000);
	assert.equal(fake.journal.length, before);
	reconciler.configure(settingsOf(['api', poolSettings('web', { hash: 'maglev-v1' })]));
	await env.advance(50);
	assert.deepEqual(fake.journal.slice(before), ['ring web gen 2 n 2']);
});

test('another service replaces the members of a pool without a hold', async () => {
	const { env, fake, reconciler, answer, states } = reconciling(settingsOf(['web']));
	answer('web', [1, 2]);
	await env.advance(50);
	reconciler.configure(settingsOf([poolSettings('web', { service: 'blue', query: 'registry blue' })]));
	answer('web', [3, 4]);
	await env.advance(50);
	assert.deepEqual(states(), ['web ok']);
	assert.deepEqual(statesOf(fake, 'web'), ['10.0.0.1 draining 0', '10.0.0.2 draining 0', '10.0.0.3 active 1', '10.0.0.4 active 1']);
});

test('new facts of the host are applied to what is believed already', async () => {
	const { env, fake, reconciler, answer } = reconciling(settingsOf(['web']));
	answer('web', [1, 2]);
	await env.advance(50);
	reconciler.configure(settingsOf(['web'], undefined, { admission: admission({ own: [{ address: address('10.0.0.1'), length: 24 }] }) }));
	await env.advance(50);
	assert.deepEqual(statesOf(fake, 'web'), ['10.0.0.2 active 1']);
});

test('a pool that fails is marked, tried again, and blocks no other', async () => {
	const env = new VirtualEnv();
	const fake = new FakeDatapath({ env, limits: { ringSize: 101, maxBackendsPerPool: 2 } });
	const { reconciler, answer, states } = reconciling(settingsOf(['api', 'web']), { env, fake });
	answer('api', [1, 2, 3]);
	answer('web', [1, 2]);
	await env.advance(50);
	assert.deepEqual(states(), ['api error', 'web ok']);
	assert.match(reconciler.status().pools[0]?.error ?? '', /3 backends/);
	answer('web', [1, instance(2, { state: 'down', reason: 'check-failed' })]);
	await env.advance(0);
	assert.deepEqual(statesOf(fake, 'web'), ['10.0.0.1 active 1', '10.0.0.2 down 0']);
	answer('api', [1, 2], { absences: gone('deregistered', 3) });
	await env.advance(50);
	assert.deepEqual(states(), ['api ok', 'web ok']);
	assert.equal(reconciler.status().pools[0]?.error, null);
});

test('passing failures are retried with back-off until everything is written', async () => {
	const env = new VirtualEnv(7);
	const fake = new FakeDatapath({ env, limits: { ringSize: 101 } });
	const [datapath, faults] = faultyDatapath(fake, { probability: 0.6, random: () => env.random() });
	const { answer, states } = reconciling(settingsOf(['api', 'web']), { env, fake, datapath });
	for (let i = 0; i < 20; i++) {
		answer('api', [1, 2, 3 + (i % 4)], { absences: gone('deregistered', 3, 4, 5, 6) });
		answer('web', [1, 2], {});
		await env.advance(400);
	}
	assert.ok(faults.injected.length > 5, `only ${faults.injected.length} faults`);
	faults.stop();
	await env.advance(60_000);
	assert.deepEqual(states(), ['api ok', 'web ok']);
	assert.deepEqual(statesOf(fake, 'api'), ['10.0.0.1 active 1', '10.0.0.2 active 1', '10.0.0.6 active 1']);
	assert.equal(fake.actual().vips.size, 2);
});

test('a datapath that throws where it should not costs a round, not the loop', async () => {
	const env = new VirtualEnv();
	const fake = new FakeDatapath({ env, limits: { ringSize: 101 } });
	let broken = false;
	const datapath = new Proxy(fake, {
		get(target, property) {
			if (property === 'actual' && broken) {
				return () => {
					throw new Error('boom');
				};
			}
			const value: unknown = Reflect.get(target, property, target);
			return typeof value === 'function' ? value.bind(target) : value;
		},
	});
	const { answer } = reconciling(settingsOf(['web']), { env, fake, datapath });
	await env.advance(0);
	broken = true;
	answer('web', [1]);
	await env.advance(50);
	assert.deepEqual(fake.journal, []);
	broken = false;
	await env.advance(60_000);
	assert.deepEqual(statesOf(fake, 'web'), ['10.0.0.1 active 1']);
});

test('a daemon that dies between two writes is made up for by the next', async () => {
	for (let seed = 1; seed <= 20; seed++) {
		const env = new VirtualEnv(seed);
		const fake = new FakeDatapath({ env, limits: { ringSize: 101 } });
		const [datapath] = faultyDatapath(fake, { probability: 0.5, random: () => env.random() });
		const first = reconciling(settingsOf(['web']), { env, fake, datapath });
		first.answer('web', [1, 2, 3]);
		await env.advance(50);
		await first.reconciler.close();
		const second = reconciling(settingsOf(['web']), { env, fake });
		second.answer('web', [1, 2, 3, 4]);
		await env.advance(50);
		assert.equal(statesOf(fake, 'web').length, 4, `seed ${seed}`);
		assert.deepEqual(second.states(), ['web ok'], `seed ${seed}`);
		assert.equal(fake.actual().vips.size, 1);
		await second.reconciler.close();
	}
});

test('an arrival during a swap joins the next round', async () => {
	const env = new VirtualEnv();
	let open = () => {};
	const fake = new FakeDatapath({ env, limits: { ringSize: 101 }, gate: () => new Promise<void>((resolve) => (open = resolve)) });
	const { answer } = reconciling(settingsOf(['web']), { env, fake });
	answer('web', [1, 2]);
	await env.advance(50);
	answer('web', [1, instance(2, { state: 'down', reason: 'check-failed' })]);
	answer('web', [1, instance(2, { state: 'down', reason: 'check-failed' }), 3]);
	await env.advance(10);
	open();
	await env.advance(0);
	open();
	await env.advance(0);
	assert.deepEqual(
		fake.journal.filter((l) => l.startsWith('ring')),
		['ring web gen 1 n 2', 'ring web gen 2 n 2'],
	);
	assert.deepEqual(statesOf(fake, 'web'), ['10.0.0.1 active 1', '10.0.0.2 down 0', '10.0.0.3 active 1']);
});

test('the last change tells the revision, what it cost and how many slots moved', async () => {
	const env = new VirtualEnv();
	const fake = new FakeDatapath({ env, limits: { ringSize: 101 }, gate: () => sleep(env, 8) });
	const { reconciler, answer } = reconciling(settingsOf(['web']), { env, fake });
	answer('web', [1, 2]);
	await env.advance(100);
	answer('web', [1, 2, 3], { revision: '77' });
	await env.advance(100);
	const change = reconciler.status().pools[0]?.lastChange;
	assert.equal(change?.revision, '77');
	assert.equal(change?.summary, '10.0.0.3 added');
	assert.equal(change?.latencyMs, 58);
	assert.equal(change?.applyMs, 8);
	assert.equal(change?.at, env.wallNow() - 42);
	assert.ok((change?.moved ?? 0) >= (change?.unavoidable ?? 1) && (change?.unavoidable ?? 0) > 20);
});

test('status shows what packets get, not what is about to be', async () => {
	const env = new VirtualEnv();
	const fake = new FakeDatapath({ env, limits: { ringSize: 101, maxBackends: 1 } });
	const { reconciler, answer } = reconciling(settingsOf(['web']), { env, fake });
	answer('web', [1, 2]);
	const rows = () => reconciler.status().pools[0]?.backends.map((b) => `${b.address} ${b.state} ${b.weight} ${b.note}`);
	const waiting = 'not written to the data plane yet';
	assert.deepEqual(rows(), [`10.0.0.1 down 1 ${waiting}`, `10.0.0.2 down 1 ${waiting}`]);
	await env.advance(50);
	assert.deepEqual(rows(), ['10.0.0.1 active 1 null', `10.0.0.2 down 1 ${waiting}`]);
	assert.equal(reconciler.status().pools[0]?.state, 'error');
});

test('it has settled when every pool was answered and reconciled', async () => {
	const { env, reconciler, answer } = reconciling(settingsOf(['api', 'web']));
	let settled = false;
	void reconciler.whenSettled().then(() => {
		settled = true;
	});
	answer('api', [1]);
	await env.advance(1000);
	assert.equal(settled, false);
	answer('web', []);
	await env.advance(50);
	assert.equal(settled, true);
});

test('an empty pool says so, and a silent source makes its pools stale', async () => {
	const bench = reconciling(settingsOf(['api', 'web']));
	bench.answer('api', []);
	bench.answer('web', [1]);
	await bench.env.advance(50);
	assert.deepEqual(bench.states(), ['api empty', 'web ok']);
	assert.equal(bench.fake.actual().vips.size, 2);
	bench.sourceState = 'stale';
	assert.deepEqual(bench.states(), ['api empty', 'web stale']);
});

test('server ids are written once, and again only when they change', async () => {
	const ids = { ids: new Map([[7, backend(1).address]]), encap: 'ipip' as const };
	const { env, fake, reconciler } = reconciling(settingsOf([], [], { serverIds: ids }));
	await env.advance(0);
	assert.deepEqual(fake.journal, ['server-ids 1']);
	reconciler.configure(settingsOf([], [], { serverIds: { ids: new Map(ids.ids), encap: 'ipip' } }));
	await env.advance(0);
	assert.equal(reconciler.status().applied, 1);
	reconciler.configure(settingsOf([], [], { serverIds: { ids: new Map(), encap: 'ipip' } }));
	await env.advance(0);
	assert.deepEqual(fake.journal, ['server-ids 1', 'server-ids 0']);
});

test('a closed loop takes nothing more and leaves no timer behind', async () => {
	const { env, fake, reconciler, answer } = reconciling(settingsOf(['web']));
	answer('web', [1, instance(2, { state: 'draining', reason: 'maintenance' })]);
	await env.advance(50);
	const before = fake.journal.length;
	await reconciler.close();
	answer('web', [3]);
	await env.advance(60_000);
	assert.equal(fake.journal.length, before);
});
