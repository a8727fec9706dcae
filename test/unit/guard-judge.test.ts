// SPDX-License-Identifier: Apache-2.0
// The guard as tables: each way of disappearing by the share of the pool that disappears.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { adoptedBelief, type Belief, backendsOf, isServing, NO_BELIEF } from '../../src/guard/belief.ts';
import { type GuardPolicy, type Judgement, judge } from '../../src/guard/guard.ts';
import { type Address, address } from '../../src/model/address.ts';
import type { AbsenceKind, Snapshot } from '../../src/model/snapshot.ts';
import { admission, gone, instance, POLICY, snapshot } from '../support/snapshots.ts';

interface Ask {
	readonly now?: number;
	readonly policy?: Partial<GuardPolicy>;
	readonly sourceUp?: boolean;
	readonly otherService?: boolean;
	readonly rules?: ReturnType<typeof admission>;
}

function ask(belief: Belief, next: Snapshot, over: Ask = {}): Judgement {
	return judge({
		pool: 'web',
		belief,
		snapshot: next,
		admission: over.rules ?? admission(),
		policy: { ...POLICY, ...over.policy },
		now: over.now ?? 0,
		sourceUp: over.sourceUp ?? true,
		otherService: over.otherService ?? false,
	});
}

const numbers = (n: number) => Array.from({ length: n }, (_, i) => i + 1);
const believing = (n: number) => ask(NO_BELIEF, snapshot(numbers(n))).belief;
const serving = (b: Belief) => [...b.members.values()].filter(isServing).length;
const stateOf = (b: Belief, n: number) => b.members.get(address(`10.0.0.${n}`))?.state ?? 'absent';

const KINDS: readonly { kind: AbsenceKind; proven: boolean; becomes: 'draining' | 'down' }[] = [
	{ kind: 'deregistered', proven: true, becomes: 'draining' },
	{ kind: 'lease-expired', proven: true, becomes: 'down' },
	{ kind: 'node-gone', proven: false, becomes: 'down' },
	{ kind: 'missing', proven: false, becomes: 'draining' },
	{ kind: 'blank', proven: false, becomes: 'draining' },
];
const SHARES = [
	{ removed: 1, isHeldUnproven: false },
	{ removed: 5, isHeldUnproven: false },
	{ removed: 6, isHeldUnproven: true },
	{ removed: 10, isHeldUnproven: true },
];

for (const { kind, proven, becomes } of KINDS) {
	for (const { removed, isHeldUnproven } of SHARES) {
		const isHeld = !proven && isHeldUnproven;
		test(`${removed} of 10 ${kind}: ${isHeld ? 'held' : `believed, ${becomes}`}`, () => {
			const left = numbers(10).slice(removed);
			const { belief, changed, urgent } = ask(believing(10), snapshot(left, { absences: gone(kind, ...numbers(removed)) }));
			assert.equal(belief.hold !== null, isHeld);
			assert.equal(serving(belief), isHeld ? 10 : 10 - removed);
			assert.equal(stateOf(belief, 1), isHeld ? 'active' : becomes);
			assert.equal(changed, !isHeld);
			assert.equal(urgent, !isHeld && becomes === 'down');
			if (isHeld) {
				assert.equal(belief.hold?.removed, removed);
				assert.equal(belief.hold?.of, 10);
				assert.match(belief.hold?.reason ?? '', new RegExp(`${removed} of 10 serving backends are gone from registry .*${kind}`));
			}
		});
	}
}

test('an absence that nobody explains counts as unproven', () => {
	assert.notEqual(ask(believing(2), snapshot([])).belief.hold, null);
	assert.notEqual(ask(believing(10), snapshot([1, 2])).belief.hold, null);
	assert.equal(ask(believing(10), snapshot(numbers(9))).belief.hold, null);
});

test('failed checks pass at once, even of the whole pool', () => {
	const failing = numbers(4).map((n) => instance(n, { state: 'down', reason: 'check-failed' }));
	const { belief, urgent } = ask(believing(4), snapshot(failing));
	assert.equal(belief.hold, null);
	assert.equal(serving(belief), 0);
	assert.ok(urgent);
});

test('an owner who deregisters all of it is believed at once', () => {
	const { belief } = ask(believing(3), snapshot([], { absences: gone('deregistered', 1, 2, 3) }));
	assert.equal(belief.hold, null);
	assert.deepEqual(
		backendsOf(belief).map((b) => b.state),
		['draining', 'draining', 'draining'],
	);
});

test('one unproven absence that would empty the pool is held, though the rest went with proof', () => {
	const { belief } = ask(believing(2), snapshot([], { absences: [...gone('deregistered', 1), ...gone('missing', 2)] }));
	assert.notEqual(belief.hold, null);
	assert.equal(stateOf(belief, 1), 'draining');
	assert.equal(stateOf(belief, 2), 'active');
});

test('a hold delays neither additions nor failed checks', () => {
	const held = ask(believing(10), snapshot([1, 2])).belief;
	const next = ask(held, snapshot([instance(1, { state: 'down', reason: 'check-failed' }), 2, 11]), { now: 10 });
	assert.notEqual(next.belief.hold, null);
	assert.ok(next.urgent);
	assert.equal(stateOf(next.belief, 1), 'down');
	assert.equal(stateOf(next.belief, 11), 'active');
	assert.equal(stateOf(next.belief, 5), 'active');
});

test('a hold ends when the members come back', () => {
	const held = ask(believing(10), snapshot([])).belief;
	const { belief } = ask(held, snapshot(numbers(10)), { now: 1000 });
	assert.equal(belief.hold, null);
	assert.equal(serving(belief), 10);
	assert.ok([...belief.members.values()].every((m) => m.kept === null));
});

test('a hold ends when all absences have become proven', () => {
	const held = ask(believing(4), snapshot([1], { absences: gone('missing', 2, 3, 4) })).belief;
	assert.notEqual(held.hold, null);
	const some = ask(held, snapshot([1], { absences: gone('deregistered', 2, 3) }), { now: 10 }).belief;
	assert.equal(some.hold, null, 'one of four without proof is within the threshold');
	assert.equal(stateOf(some, 2), 'draining');
});

test('a proof that came before the hold ended is not forgotten by the next snapshot', () => {
	const held = ask(
		believing(10),
		snapshot([1], { absences: [...gone('deregistered', 2), ...gone('missing', 3, 4, 5, 6, 7, 8, 9, 10)] }),
	).belief;
	assert.notEqual(held.hold, null);
	assert.equal(stateOf(held, 2), 'draining');
	const next = ask(held, snapshot([1, 3]), { now: 10 }).belief;
	assert.equal(stateOf(next, 2), 'draining');
	assert.notEqual(next.hold, null);
});

test('a hold ends by itself after its time, counted from its beginning', () => {
	const first = ask(believing(4), snapshot([1]), { now: 100 });
	assert.equal(first.nextAt, 100 + POLICY.holdMs);
	const again = ask(first.belief, snapshot([1]), { now: 100 + POLICY.holdMs - 1 });
	assert.equal(again.belief.hold?.since, 100);
	const over = ask(again.belief, snapshot([1]), { now: 100 + POLICY.holdMs });
	assert.equal(over.belief.hold, null);
	assert.equal(stateOf(over.belief, 2), 'draining');
	assert.equal(over.belief.members.get(address('10.0.0.2'))?.kept, null);
});

test('a hold does not run out on the word of a source that is away', () => {
	const held = ask(believing(4), snapshot([1])).belief;
	const late = ask(held, snapshot([1]), { now: POLICY.holdMs + 5000, sourceUp: false });
	assert.notEqual(late.belief.hold, null);
	assert.equal(late.nextAt, POLICY.holdMs + 6000);
	assert.equal(ask(late.belief, snapshot([1]), { now: POLICY.holdMs + 6000 }).belief.hold, null);
});

test('what was believed to be gone without proof comes back when nothing else is left', () => {
	const leaving = ask(believing(3), snapshot([1, 2])).belief;
	assert.equal(stateOf(leaving, 3), 'draining');
	const failing = [instance(1, { state: 'down', reason: 'check-failed' })];
	const { belief } = ask(leaving, snapshot(failing, { absences: gone('deregistered', 2) }), { now: 1000 });
	assert.equal(stateOf(belief, 3), 'active');
	assert.equal(stateOf(belief, 2), 'draining');
	assert.equal(belief.hold?.removed, 1);
	assert.equal(belief.hold?.of, 1);
	const over = ask(belief, snapshot(failing), { now: 1000 + POLICY.holdMs });
	assert.equal(over.belief.hold, null);
	assert.equal(stateOf(over.belief, 3), 'draining');
});

test('a slow leak is held like a sudden loss', () => {
	let belief = believing(10);
	let left = numbers(10);
	for (let now = 1000; left.length > 5; now += 1000) {
		left = left.slice(1);
		belief = ask(belief, snapshot(left), { now }).belief;
		assert.equal(belief.hold, null, `${left.length} left`);
	}
	belief = ask(belief, snapshot(left.slice(1)), { now: 20_000 }).belief;
	assert.equal(belief.hold?.removed, 6);
	assert.equal(belief.hold?.of, 10);
	assert.equal(serving(belief), 5);
});

test('a rolling deployment whose registry proves nothing is not taken for a leak', () => {
	let belief = believing(6);
	let listed = numbers(6);
	for (let i = 0; i < 6; i++) {
		listed = [...listed, 20 + i];
		belief = ask(belief, snapshot(listed), { now: i * 1000 }).belief;
		listed = listed.slice(1);
		belief = ask(belief, snapshot(listed), { now: i * 1000 + 500 }).belief;
		assert.equal(belief.hold, null, `step ${i}`);
	}
	assert.equal(serving(belief), 6);
});

test('threshold and hold of the policy count', () => {
	const lose = (n: number, policy: Partial<GuardPolicy>) => ask(believing(10), snapshot(numbers(10).slice(n)), { policy }).belief.hold;
	assert.notEqual(lose(1, { panicThreshold: 1 }), null);
	assert.equal(lose(9, { panicThreshold: 0 }), null);
	assert.notEqual(lose(10, { panicThreshold: 0 }), null, 'an unproven blank is held at any threshold');
	assert.equal(lose(10, { holdMs: 0 }), null);
});

test('the first snapshot after a start is judged against what the data plane holds', () => {
	const adopted = adoptedBelief(backendsOf(believing(4)));
	assert.notEqual(ask(adopted, snapshot([1])).belief.hold, null);
	assert.equal(ask(adopted, snapshot([])).belief.hold?.removed, 4);
	const same = ask(adopted, snapshot(numbers(4)));
	assert.equal(same.changed, false);
	assert.equal(ask(adopted, snapshot([1, 2, 3])).belief.hold, null);
});

test('what an adopted data plane did not serve any more may go', () => {
	const adopted = adoptedBelief([
		...backendsOf(believing(1)),
		{ address: address('10.0.0.2'), weight: 0, state: 'draining', local: false },
		{ address: address('10.0.0.3'), weight: 0, state: 'down', local: false },
	]);
	const { belief } = ask(adopted, snapshot([1]));
	assert.equal(belief.hold, null);
	assert.equal(stateOf(belief, 2), 'draining');
	assert.equal(stateOf(belief, 3), 'down');
});

test('another service in the configuration replaces the members, but not by nothing', () => {
	const replaced = ask(believing(4), snapshot([11, 12]), { otherService: true }).belief;
	assert.equal(replaced.hold, null);
	assert.equal(stateOf(replaced, 1), 'draining');
	assert.equal(serving(replaced), 2);
	assert.notEqual(ask(believing(4), snapshot([]), { otherService: true }).belief.hold, null);
});

test('an instance that moves to another address is no absence', () => {
	const moved = numbers(4).map((n) => instance(n, { address: address(`10.0.1.${n}`) }));
	const { belief } = ask(believing(4), snapshot(moved));
	assert.equal(belief.hold, null);
	assert.equal(serving(belief), 4);
	assert.equal(stateOf(belief, 1), 'draining');
});

test('entries that all become unusable at once are held, with their reason', () => {
	const rejected = numbers(4).map((n) => ({ instance: `i${n}`, reason: 'not JSON' }));
	const { belief } = ask(believing(4), snapshot([], { rejected }));
	assert.match(belief.hold?.reason ?? '', /rejected/);
	assert.deepEqual(belief.rejected, rejected);
	assert.equal(serving(belief), 4);
});

test('an address that is denied goes at once, hold or not', () => {
	const rules = admission({ own: [{ address: address('10.0.0.1'), length: 24 }] });
	const { belief } = ask(believing(4), snapshot([]), { rules });
	assert.equal(stateOf(belief, 1), 'absent');
	assert.equal(stateOf(belief, 2), 'active');
	assert.notEqual(belief.hold, null);
});

test('a maintenance drains, then goes down and stays listed', () => {
	const draining = snapshot([instance(1, { state: 'draining', reason: 'maintenance' }), 2]);
	const first = ask(believing(2), draining, { now: 1000 });
	assert.equal(stateOf(first.belief, 1), 'draining');
	assert.equal(first.nextAt, 31_000);
	const before = ask(first.belief, draining, { now: 30_999 });
	assert.equal(before.changed, false);
	const after = ask(before.belief, draining, { now: 31_000 });
	assert.equal(stateOf(after.belief, 1), 'down');
	assert.equal(after.nextAt, null);
	assert.equal(ask(after.belief, draining, { now: 40_000 }).changed, false, 'it does not start to drain again');
});

test('a weight of 0 drains like a maintenance', () => {
	const { belief } = ask(believing(2), snapshot([instance(1, { weight: 0 }), 2]));
	assert.equal(stateOf(belief, 1), 'draining');
});

test('a deregistered backend drains for the time of its pool and is then removed', () => {
	const next = snapshot([2], { absences: gone('deregistered', 1) });
	const first = ask(believing(2), next, { policy: { drainMs: 5000 } });
	assert.equal(first.nextAt, 5000);
	const again = ask(first.belief, snapshot([2]), { now: 4999, policy: { drainMs: 5000 } });
	assert.equal(stateOf(again.belief, 1), 'draining');
	const over = ask(again.belief, snapshot([2]), { now: 5000, policy: { drainMs: 5000 } });
	assert.equal(stateOf(over.belief, 1), 'absent');
	assert.ok(over.changed);
	assert.equal(over.belief.departures.size, 0);
});

test('a drain of 0 removes at once', () => {
	const { belief } = ask(believing(2), snapshot([2], { absences: gone('deregistered', 1) }), { policy: { drainMs: 0 } });
	assert.equal(stateOf(belief, 1), 'absent');
});

test('a backend that comes back while it drains is active again and keeps nothing of its way out', () => {
	const leaving = ask(believing(2), snapshot([2], { absences: gone('deregistered', 1) })).belief;
	const { belief } = ask(leaving, snapshot([1, 2]), { now: 1000 });
	assert.equal(stateOf(belief, 1), 'active');
	assert.equal(belief.members.get(address('10.0.0.1'))?.leaving, null);
	assert.equal(belief.members.get(address('10.0.0.1'))?.until, null);
});

test('a failed backend that enters maintenance stays down', () => {
	const failed = ask(believing(2), snapshot([instance(1, { state: 'down', reason: 'check-failed' }), 2])).belief;
	const { belief } = ask(failed, snapshot([instance(1, { state: 'draining', reason: 'maintenance' }), 2]));
	assert.equal(stateOf(belief, 1), 'down');
});

test('judging again without news changes nothing', () => {
	const scenario = fc.record({
		listed: fc.uniqueArray(fc.integer({ min: 1, max: 8 })),
		states: fc.array(fc.constantFrom('active' as const, 'draining' as const, 'down' as const), { minLength: 9, maxLength: 9 }),
		kinds: fc.array(fc.constantFrom<AbsenceKind>('deregistered', 'lease-expired', 'node-gone', 'missing', 'blank'), {
			minLength: 9,
			maxLength: 9,
		}),
	});
	fc.assert(
		fc.property(fc.array(scenario, { maxLength: 6 }), (steps) => {
			let belief = believing(8);
			let now = 0;
			for (const { listed, states, kinds } of steps) {
				const absences = numbers(8)
					.filter((n) => !listed.includes(n))
					.flatMap((n) => gone(kinds[n] ?? 'missing', n));
				const next = snapshot(
					listed.map((n) => instance(n, { state: states[n] ?? 'active' })),
					{ absences },
				);
				const first = ask(belief, next, { now });
				const second = ask(first.belief, next, { now });
				assert.deepEqual(second.belief.members, first.belief.members);
				assert.deepEqual(second.belief.hold, first.belief.hold);
				assert.equal(second.changed, false);
				// Safety: an unproven absence never empties a serving pool while held, and never takes it below the threshold at once.
				const addresses = new Set<Address>(next.instances.map((i) => i.address));
				const unproven = [...belief.members.values()].filter(
					(m) => isServing(m) && !addresses.has(m.address) && kindOf(kinds, m.address) === 'unproven',
				);
				if (unproven.length > 0.5 * serving(belief)) assert.notEqual(first.belief.hold, null);
				belief = first.belief;
				now += 7000;
			}
		}),
		{ numRuns: 300 },
	);
});

function kindOf(kinds: readonly AbsenceKind[], a: Address): 'proven' | 'unproven' {
	const kind = kinds[Number(a.split('.')[3])];
	return kind === 'deregistered' || kind === 'lease-expired' ? 'proven' : 'unproven';
}
