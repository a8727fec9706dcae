// SPDX-License-Identifier: Apache-2.0
// The guard's clock: drains and holds that end with no news at all, and what it reports when.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PoolGuard, type PoolGuardOptions } from '../../src/guard/pool-guard.ts';
import { silentLogger } from '../../src/log.ts';
import { address } from '../../src/model/address.ts';
import { admission, gone, instance, POLICY, snapshot } from '../support/snapshots.ts';
import { VirtualEnv } from '../support/virtual-env.ts';

function guarded(over: Partial<PoolGuardOptions> = {}) {
	const env = new VirtualEnv();
	const reports: boolean[] = [];
	const guard = new PoolGuard({
		pool: 'web',
		env,
		logger: silentLogger(),
		rules: { policy: POLICY, admission: admission() },
		adopted: [],
		isSourceUp: () => true,
		onChange: (urgent) => reports.push(urgent),
		...over,
	});
	const states = () => guard.desired()?.map((b) => `${b.address} ${b.state}`);
	return { env, guard, reports, states };
}

test('nobody knows what should be before the source has answered', () => {
	const { guard } = guarded({ adopted: [{ address: address('10.0.0.1'), weight: 1, state: 'active', local: false }] });
	assert.equal(guard.desired(), null);
	guard.offer(snapshot([1]));
	assert.equal(guard.desired()?.length, 1);
});

test('the first answer is reported even when it changes nothing', () => {
	const { guard, reports } = guarded({ adopted: [{ address: address('10.0.0.1'), weight: 1, state: 'active', local: false }] });
	guard.offer(snapshot([1]));
	assert.deepEqual(reports, [false]);
	guard.offer(snapshot([1], { revision: '2' }));
	assert.deepEqual(reports, [false]);
	assert.equal(guard.snapshot?.revision, '2');
});

test('a failed check is reported as urgent, an addition is not', () => {
	const { guard, reports } = guarded();
	guard.offer(snapshot([1, 2]));
	guard.offer(snapshot([1, 2, 3]));
	guard.offer(snapshot([1, 2, instance(3, { state: 'down', reason: 'check-failed' })]));
	assert.deepEqual(reports, [false, false, true]);
});

test('a drained backend goes by itself', async () => {
	const { env, guard, reports, states } = guarded();
	guard.offer(snapshot([1, 2]));
	guard.offer(snapshot([2], { absences: gone('deregistered', 1) }));
	assert.deepEqual(states(), ['10.0.0.1 draining', '10.0.0.2 active']);
	await env.advance(POLICY.drainMs - 1);
	assert.equal(reports.length, 2);
	await env.advance(1);
	assert.deepEqual(states(), ['10.0.0.2 active']);
	assert.equal(reports.length, 3);
	assert.equal(env.pendingTimers, 0);
});

test('a hold ends by itself, and then the members drain', async () => {
	const { env, guard, states } = guarded();
	guard.offer(snapshot([1, 2]));
	guard.offer(snapshot([]));
	assert.notEqual(guard.belief.hold, null);
	await env.advance(POLICY.holdMs);
	assert.equal(guard.belief.hold, null);
	assert.deepEqual(states(), ['10.0.0.1 draining', '10.0.0.2 draining']);
	await env.advance(POLICY.drainMs);
	assert.deepEqual(states(), []);
});

test('a hold outlasts an absent source and ends soon after its return', async () => {
	let up = true;
	const { env, guard } = guarded({ isSourceUp: () => up });
	guard.offer(snapshot([1, 2]));
	guard.offer(snapshot([]));
	up = false;
	await env.advance(POLICY.holdMs * 3);
	assert.notEqual(guard.belief.hold, null);
	up = true;
	await env.advance(1000);
	assert.equal(guard.belief.hold, null);
});

test('new rules are applied to the last snapshot', () => {
	const { guard, reports, states } = guarded();
	guard.offer(snapshot([1, 2]));
	guard.configure({ policy: POLICY, admission: admission({ own: [{ address: address('10.0.0.1'), length: 32 }] }) });
	assert.deepEqual(states(), ['10.0.0.2 active']);
	assert.equal(reports.length, 2);
	assert.match(guard.belief.rejected[0]?.reason ?? '', /own address/);
});

test('another service is awaited until it has something', () => {
	const { guard, states } = guarded();
	guard.offer(snapshot([1, 2, 3]));
	guard.expectOtherService();
	guard.offer(snapshot([]));
	assert.notEqual(guard.belief.hold, null);
	guard.offer(snapshot([11]));
	assert.equal(guard.belief.hold, null);
	assert.deepEqual(states()?.at(-1), '10.0.0.11 active');
	assert.deepEqual(states()?.[0], '10.0.0.1 draining');
	guard.offer(snapshot([]));
	assert.notEqual(guard.belief.hold, null, 'once it came, the new service is guarded like any other');
});

test('a closed guard leaves no timer behind', () => {
	const { env, guard } = guarded();
	guard.offer(snapshot([1]));
	guard.offer(snapshot([], { absences: gone('deregistered', 1) }));
	guard.close();
	assert.equal(env.pendingTimers, 0);
});
