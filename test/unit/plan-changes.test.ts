// SPDX-License-Identifier: Apache-2.0
// The planner as a pure function, and with apply on the fake datapath: what is planned and applied is what was wanted.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { ActualState } from '../../src/datapath/datapath.ts';
import { systemEnv } from '../../src/env.ts';
import { applyChanges } from '../../src/reconcile/apply.ts';
import type { Change } from '../../src/reconcile/change.ts';
import { describeChange, summarize } from '../../src/reconcile/describe.ts';
import type { Desired } from '../../src/reconcile/desired.ts';
import { planChanges } from '../../src/reconcile/plan.ts';
import { anyDesired, backend, desiredOf, heldBy, poolOf, vipOf, wantedBy } from '../support/desired-states.ts';
import { FakeDatapath } from '../support/fake-datapath.ts';
import { faultyDatapath } from '../support/faulty-datapath.ts';
import { VirtualEnv } from '../support/virtual-env.ts';

const NOTHING: ActualState = { pools: new Map(), vips: new Map() };
const small = () => new FakeDatapath({ limits: { ringSize: 101 } });
const lines = (changes: readonly Change[]) => changes.map(describeChange);

async function applied(desired: Desired, datapath = small()): Promise<FakeDatapath> {
	const result = await applyChanges(datapath, planChanges(desired, datapath.actual()), systemEnv);
	assert.equal(result.error, undefined);
	assert.equal(result.failed.size, 0);
	return datapath;
}

test('applying a plan makes exactly what was wanted, and nothing is left to plan', async () => {
	await fc.assert(
		fc.asyncProperty(anyDesired, anyDesired, async (first, second) => {
			const datapath = await applied(first);
			assert.deepEqual(heldBy(datapath.actual()), wantedBy(first));
			await applied(second, datapath);
			assert.deepEqual(heldBy(datapath.actual()), wantedBy(second));
			assert.deepEqual(planChanges(second, datapath.actual()), []);
		}),
		{ numRuns: 60 },
	);
});

test('a plan that fails half-way converges when it is made again', async () => {
	await fc.assert(
		fc.asyncProperty(anyDesired, anyDesired, fc.nat(), async (first, second, seed) => {
			const datapath = await applied(first);
			const random = new VirtualEnv(seed);
			const [faulty, faults] = faultyDatapath(datapath, { probability: 0.4, random: () => random.random() });
			for (let i = 0; i < 4; i++) await applyChanges(faulty, planChanges(second, faulty.actual()), systemEnv);
			faults.stop();
			await applied(second, datapath);
			assert.deepEqual(heldBy(datapath.actual()), wantedBy(second));
		}),
		{ numRuns: 60 },
	);
});

test('no order of failures ever leaves a vip without its pool or a ring with an unknown backend', async () => {
	await fc.assert(
		fc.asyncProperty(anyDesired, anyDesired, fc.nat(), async (first, second, seed) => {
			const datapath = await applied(first);
			const random = new VirtualEnv(seed);
			const [faulty] = faultyDatapath(datapath, { probability: 0.5, random: () => random.random() });
			await applyChanges(faulty, planChanges(second, faulty.actual()), systemEnv);
			const { pools, vips } = datapath.actual();
			for (const v of vips.values()) assert.ok(pools.has(v.pool), `${v.pool} is gone`);
			// A vip that stays is served by its old pool or its new one, never by nothing.
			for (const [key, v] of first.vips)
				if (second.vips.has(key)) assert.ok([v.pool, second.vips.get(key)?.pool].includes(vips.get(key)?.pool));
		}),
		{ numRuns: 60 },
	);
});

test('a plan makes before it breaks', () => {
	const rank: Record<Change['kind'], number> = {
		'pool-add': 1,
		'backend-add': 1,
		'backend-state': 1,
		'ring-swap': 2,
		'server-ids': 3,
		'vip-add': 4,
		'vip-change': 4,
		'vip-remove': 4,
		'backend-remove': 5,
		'pool-remove': 6,
	};
	fc.assert(
		fc.property(anyDesired, anyDesired, (first, second) => {
			const ranks = planChanges(second, asActual(first)).map((c) => rank[c.kind]);
			assert.deepEqual(
				ranks,
				[...ranks].sort((a, b) => a - b),
			);
		}),
	);
});

test('equal inputs give equal plans, whatever the order of their maps', () => {
	fc.assert(
		fc.property(anyDesired, anyDesired, (first, second) => {
			const reversed: Desired = { ...second, pools: new Map([...second.pools].reverse()), vips: new Map([...second.vips].reverse()) };
			const actual = asActual(first);
			const other: ActualState = { pools: new Map([...actual.pools].reverse()), vips: new Map([...actual.vips].reverse()) };
			assert.deepEqual(lines(planChanges(reversed, other)), lines(planChanges(second, actual)));
		}),
	);
});

test('a backend that joins is put before the ring names it, one that leaves is removed after', () => {
	const before = desiredOf([poolOf('web', [backend(1), backend(2)])], [vipOf(1, 'web')]);
	const after = desiredOf([poolOf('web', [backend(2), backend(3)])], [vipOf(1, 'web')]);
	assert.deepEqual(lines(planChanges(after, asActual(before))), [
		'pool web: add backend 10.0.0.3 (active)',
		'pool web: swap the ring (2 backends; 10.0.0.3 joins; 10.0.0.1 leaves)',
		'pool web: remove backend 10.0.0.1',
	]);
});

test('draining and failing change the state at once and the ring with the same plan', () => {
	const before = desiredOf([poolOf('web', [backend(1), backend(2)])]);
	const after = desiredOf([poolOf('web', [backend(1, { state: 'down' }), backend(2)])]);
	const changes = planChanges(after, asActual(before));
	assert.deepEqual(lines(changes), ['pool web: backend 10.0.0.1 active -> down', 'pool web: swap the ring (1 backend; 10.0.0.1 leaves)']);
	assert.equal(summarize(changes), '10.0.0.1 down');
});

test('a state that changes neither members nor weights swaps no ring', () => {
	const before = desiredOf([poolOf('web', [backend(1, { state: 'draining' }), backend(2)])]);
	const after = desiredOf([poolOf('web', [backend(1, { state: 'down' }), backend(2)])]);
	assert.deepEqual(lines(planChanges(after, asActual(before))), ['pool web: backend 10.0.0.1 draining -> down']);
});

test('another weight or another hash swaps the ring alone', () => {
	const before = desiredOf([poolOf('web', [backend(1), backend(2)])]);
	const heavier = desiredOf([poolOf('web', [backend(1, { weight: 5 }), backend(2)])]);
	assert.deepEqual(lines(planChanges(heavier, asActual(before))), ['pool web: swap the ring (2 backends; 10.0.0.1 with another weight)']);
	const hashed = desiredOf([poolOf('web', [backend(1), backend(2)], { hash: 'maglev-v1' })]);
	assert.deepEqual(lines(planChanges(hashed, asActual(before))), ['pool web: swap the ring (2 backends; maglev-v2 -> maglev-v1)']);
});

test('an empty pool is created, so that its vip can count what it drops', () => {
	const desired = desiredOf([poolOf('web', [])], [vipOf(1, 'web')]);
	assert.deepEqual(lines(planChanges(desired, NOTHING)), [
		'pool web: create it',
		'pool web: swap the ring (0 backends)',
		'vip 203.0.113.1:443/tcp: serve it from pool web',
	]);
});

test('a pool whose source has not answered is left exactly as it is', () => {
	const before = desiredOf([poolOf('web', [backend(1), backend(2)])], [vipOf(1, 'web')]);
	const unknown = desiredOf([], [vipOf(1, 'web')], { unanswered: new Set(['web']) });
	assert.deepEqual(planChanges(unknown, asActual(before)), []);
	const withoutVip = desiredOf([], [], { unanswered: new Set(['web']) });
	assert.deepEqual(lines(planChanges(withoutVip, asActual(before))), ['vip 203.0.113.1:443/tcp: stop serving it']);
});

test('a pool that left the configuration goes when no vip names it any more, after its vips', () => {
	const before = desiredOf([poolOf('old', [backend(1)]), poolOf('web', [backend(2)])], [vipOf(1, 'old'), vipOf(2, 'web')]);
	const moved = desiredOf([poolOf('web', [backend(2)])], [vipOf(1, 'web'), vipOf(2, 'web')]);
	assert.deepEqual(lines(planChanges(moved, asActual(before))), [
		'vip 203.0.113.1:443/tcp: change it from pool old to pool web',
		'pool old: remove it',
	]);
	const stillNamed = desiredOf([poolOf('web', [backend(2)])], [vipOf(1, 'old'), vipOf(2, 'web')]);
	assert.deepEqual(planChanges(stillNamed, asActual(before)), []);
});

test('only the pools in question are compared', () => {
	const desired = desiredOf([poolOf('api', [backend(1)]), poolOf('web', [backend(2)])], [vipOf(1, 'api'), vipOf(2, 'web')]);
	assert.deepEqual(lines(planChanges(desired, NOTHING, new Set(['web']))), [
		'pool web: create it',
		'pool web: add backend 10.0.0.2 (active)',
		'pool web: swap the ring (1 backend; 10.0.0.2 joins)',
		'vip 203.0.113.2:443/tcp: serve it from pool web',
	]);
});

test('one pool that fails for good does not keep the others from being applied', async () => {
	const datapath = new FakeDatapath({ limits: { ringSize: 101, maxBackendsPerPool: 2 } });
	const many = poolOf('many', [backend(1), backend(2), backend(3)]);
	const names = ['a', 'b', 'c', 'd', 'e'];
	const desired = desiredOf([...names.map((n) => poolOf(n, [backend(1)])), many], [vipOf(1, 'a'), vipOf(2, 'many')]);
	const result = await applyChanges(datapath, planChanges(desired, datapath.actual()), systemEnv);
	assert.deepEqual([...result.failed.keys()], ['many']);
	assert.deepEqual(result.swaps.map((s) => s.pool).sort(), names);
	assert.ok(datapath.actual().vips.has('203.0.113.1:443/tcp'));
});

test('all rings of a plan go in one call', async () => {
	const datapath = small();
	const batches: number[] = [];
	const counting = new Proxy(datapath, {
		get(target, property) {
			const value: unknown = Reflect.get(target, property, target);
			if (typeof value !== 'function') return value;
			return (...args: unknown[]) => {
				if (property === 'swapRings') batches.push((args[0] as unknown[]).length);
				return (value as (...a: unknown[]) => unknown).apply(target, args);
			};
		},
	});
	const desired = desiredOf(['a', 'b', 'c', 'd'].map((n) => poolOf(n, [backend(1)])));
	await applyChanges(counting, planChanges(desired, counting.actual()), systemEnv);
	assert.deepEqual(batches, [4]);
});

test('a full backend table mends itself once departed backends are removed', async () => {
	const datapath = new FakeDatapath({ limits: { ringSize: 101, maxBackends: 3 } });
	await applied(desiredOf([poolOf('web', [backend(1), backend(2)])]), datapath);
	const draining = desiredOf([poolOf('web', [backend(1), backend(2, { state: 'draining' })])]);
	await applied(draining, datapath);
	const next = desiredOf([poolOf('web', [backend(1), backend(3), backend(4)])]);
	const first = await applyChanges(datapath, planChanges(next, datapath.actual()), systemEnv);
	assert.deepEqual([...first.failed.keys()], ['web']);
	await applied(next, datapath);
	assert.deepEqual(heldBy(datapath.actual()), wantedBy(next));
});

/** What a datapath would hold that had a desired state applied to nothing. */
function asActual(desired: Desired): ActualState {
	const pools = [...desired.pools.values()].map((p) => {
		const backends = p.backends.map(
			(b) =>
				[
					b.address,
					{ address: b.address, state: b.state, encap: p.encap, local: b.local, weight: b.state === 'active' ? b.weight : 0, slots: null },
				] as const,
		);
		return [
			p.name,
			{ name: p.name, ring: { hash: p.hash, digest: null, generation: 1, inputs: '' }, backends: new Map(backends) },
		] as const;
	});
	return { pools: new Map(pools), vips: desired.vips };
}
