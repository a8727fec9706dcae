// SPDX-License-Identifier: Apache-2.0
// The demo's verdict: that a broken promise is found, from either end's record. A verdict that can't say no proves nothing.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PromiseId } from '../../src/demo/figures.ts';
import { judge } from '../../src/demo/judge.ts';
import type { ChangeStory, Story } from '../../src/demo/story.ts';
import type { Exchange, ExchangeKind, SeenFlow } from '../../src/demo/traffic/exchange.ts';

const JOIN_AT = 1000;
const LEAVE_AT = 2000;
const DEATH_AT = 3000;
const DEATH_SWAP_AT = 3500;
const DAEMON_KILLED_AT = 4000;
const DAEMON_BACK_AT = 4500;

function change(backend: string, at: number, swapAt: number): ChangeStory {
	return { backend, at, swapAt, slots: { moved: 30, unavoidable: 25 }, expectedBeyond: 4, ofSlots: 100 };
}

function flow(port: number): string {
	return `10.77.1.2:${port}>203.0.113.10:80/tcp`;
}

function exchange(at: number, port: number, backend: string | null, more: Partial<Exchange> = {}): Exchange {
	return { at, ms: 1, kind: 'new' as ExchangeKind, flow: flow(port), backend, error: backend === null ? 'ECONNREFUSED' : null, ...more };
}

function seen(port: number, firstAt: number): SeenFlow {
	return { flow: flow(port), requests: 1, firstAt, lastAt: firstAt };
}

/** A demo in which all went well: one request in each act, and one connection that stays on b1. */
function goodStory(): { story: Story; b1: SeenFlow[]; b2: SeenFlow[]; b3: SeenFlow[]; b4: SeenFlow[]; exchanges: Exchange[] } {
	const b1 = [seen(1, 100), seen(2, 2100), seen(5, 4100), seen(6, 4600)];
	const b2 = [seen(7, 200)];
	const b3 = [seen(3, 300)];
	const b4 = [seen(4, 1200)];
	const exchanges = [
		exchange(100, 1, 'b1', { kind: 'kept' }),
		exchange(200, 7, 'b2'),
		exchange(300, 3, 'b3'),
		exchange(1200, 4, 'b4'),
		exchange(2100, 2, 'b1'),
		exchange(3100, 9, null),
		exchange(3900, 1, 'b1', { kind: 'kept' }),
		exchange(4100, 5, 'b1'),
		exchange(4600, 6, 'b1'),
	];
	const record = (name: string, flows: SeenFlow[], diedAt: number | null = null) => ({ name, flows, diedAt });
	const story: Story = {
		from: 0,
		to: 5000,
		join: change('b4', JOIN_AT, 1060),
		leave: change('b2', LEAVE_AT, 2060),
		death: change('b3', DEATH_AT, DEATH_SWAP_AT),
		daemonKilledAt: DAEMON_KILLED_AT,
		daemonBackAt: DAEMON_BACK_AT,
		afterRestart: { adopted: true, ring_swaps: 0, mode: 'native' },
		exchanges,
		records: [record('b1', b1), record('b2', b2), record('b3', b3, DEATH_AT), record('b4', b4)],
	};
	return { story, b1, b2, b3, b4, exchanges };
}

function broken(story: Story): PromiseId[] {
	return judge(story)
		.promises.filter((p) => !p.kept)
		.map((p) => p.id);
}

test('keeps every promise when nothing went wrong, and counts what a death costs', () => {
	const { story } = goodStory();
	const verdict = judge(story);
	assert.deepEqual(broken(story), []);
	assert.equal(verdict.kept, true);
	assert.deepEqual([verdict.death.failed_before_swap, verdict.death.failed_after_swap, verdict.death.kill_to_swap_ms], [1, 0, 500]);
	assert.equal(verdict.join.write_to_swap_ms, 60);
	assert.equal(verdict.join.write_to_traffic_ms, 200);
	assert.deepEqual(verdict.join.slots, { moved: 30, unavoidable: 25, beyond: 5, maglev_expects_beyond: 4, of: 100 });
});

test('finds a failed request in the act it belongs to', () => {
	const acts: [number, PromiseId][] = [
		[500, 'baseline-no-failures'],
		[1500, 'join-no-failures'],
		[2500, 'leave-no-failures'],
		[DEATH_SWAP_AT + 1, 'death-failures-end-with-swap'],
		[4200, 'daemon-kill-no-failures'],
		[4700, 'daemon-kill-no-failures'],
	];
	for (const [at, id] of acts) {
		const { story, exchanges } = goodStory();
		exchanges.push(exchange(at, 99, null));
		assert.deepEqual(broken(story), [id], `a failure at ${at}`);
	}
});

test('blames a death for the requests that it cut off, and for those alone', () => {
	const cut = goodStory();
	cut.exchanges.push(exchange(DEATH_AT - 5, 20, null, { ms: 6, error: 'ECONNRESET' }));
	assert.deepEqual(broken(cut.story), []);
	assert.equal(judge(cut.story).death.failed_before_swap, 2);
	const early = goodStory();
	early.exchanges.push(exchange(DEATH_AT - 5, 20, null, { ms: 4, error: 'ECONNRESET' }));
	assert.deepEqual(broken(early.story), ['leave-no-failures']);
});

test('does not take silence for success', () => {
	const { story, exchanges } = goodStory();
	exchanges.splice(
		exchanges.findIndex((e) => e.at === 2100),
		1,
	);
	assert.deepEqual(broken(story), ['leave-no-failures']);
});

test('finds a joined backend without traffic and new flows on one that left', () => {
	const first = goodStory();
	const index = first.exchanges.findIndex((e) => e.backend === 'b4');
	first.exchanges[index] = exchange(1200, 8, 'b1');
	first.b1.push(seen(8, 1200));
	assert.deepEqual(broken(first.story), ['join-takes-traffic']);

	const second = goodStory();
	second.exchanges.push(exchange(2500, 10, 'b2'));
	second.b2.push(seen(10, 2500));
	assert.deepEqual(broken(second.story), ['leave-takes-no-new-flows']);
});

test('finds a flow that two living backends saw', () => {
	const { story, b4 } = goodStory();
	b4.push(seen(1, 1500));
	assert.deepEqual(broken(story), ['no-flow-moved']);
});

test('lets the flows of a dead backend go elsewhere, but only after its death', () => {
	const after = goodStory();
	after.b1.push(seen(3, DEATH_SWAP_AT));
	assert.deepEqual(broken(after.story), []);
	const before = goodStory();
	before.b1.push(seen(3, DEATH_AT - 1));
	assert.deepEqual(broken(before.story), ['no-flow-moved']);
});

test('finds a connection that broke although its backend lives', () => {
	const { story, exchanges } = goodStory();
	exchanges.push(exchange(3200, 1, null, { kind: 'kept', error: 'ECONNRESET' }));
	assert.deepEqual(broken(story), ['no-flow-moved']);
});

test('finds an answer that the backend knows nothing of', () => {
	const { story, b1 } = goodStory();
	b1.splice(1, 1);
	assert.deepEqual(broken(story), ['records-agree']);
});

test('finds a daemon that did not adopt, and one that adopted but wrote', () => {
	const { story } = goodStory();
	assert.deepEqual(broken({ ...story, afterRestart: { adopted: false, ring_swaps: 0, mode: 'native' } }), ['restart-adopts']);
	assert.deepEqual(broken({ ...story, afterRestart: { adopted: true, ring_swaps: 1, mode: 'native' } }), ['restart-adopts']);
});
