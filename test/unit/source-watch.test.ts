// SPDX-License-Identifier: Apache-2.0
// What all watches share: waiting between attempts, health, comparing and telling.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { XdpilotError } from '../../src/errors.ts';
import { silentLogger } from '../../src/log.ts';
import { address } from '../../src/model/address.ts';
import type { AbsenceKind, Instance, Snapshot } from '../../src/model/snapshot.ts';
import { Pace } from '../../src/sources/consul/pace.ts';
import { printable } from '../../src/sources/foreign-text.ts';
import { OutageLog } from '../../src/sources/outage-log.ts';
import { Publisher } from '../../src/sources/publisher.ts';
import { sourceStatus, WatchHealth } from '../../src/sources/watch-health.ts';
import { Backoff, bounded, jittered, startLoop } from '../../src/sources/watch-loop.ts';
import { settle, VirtualEnv } from '../support/virtual-env.ts';

const instance = (id: string, over: Partial<Instance> = {}): Instance => ({
	id,
	address: address('10.0.0.1'),
	port: 80,
	weight: 1,
	state: 'active',
	reason: 'declared',
	local: false,
	...over,
});

test('back-off waits anywhere below a ceiling that doubles to a bound and falls back on success', () => {
	const env = new VirtualEnv(7);
	const backoff = new Backoff(env, { minMs: 100, maxMs: 5000 });
	const ceilings = [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000];
	const waits = ceilings.map(() => backoff.next());
	for (const [i, ms] of waits.entries()) assert.ok(ms >= 0 && ms < (ceilings[i] ?? 0), `${ms} in round ${i}`);
	assert.equal(new Set(waits).size, waits.length);
	backoff.reset();
	assert.ok(backoff.next() < 100);
});

test('jitter stays within a fifth', () => {
	const env = new VirtualEnv();
	for (let i = 0; i < 1000; i++) {
		const ms = jittered(env, 1000);
		assert.ok(ms >= 800 && ms < 1200);
	}
});

test('a bounded promise settles in time, and its timer goes with it', async () => {
	const env = new VirtualEnv();
	assert.equal(await bounded(env, Promise.resolve(5), 1000, 'it'), 5);
	await assert.rejects(bounded(env, Promise.reject(new Error('no')), 1000, 'it'), /no/);
	const late = assert.rejects(bounded(env, new Promise(() => undefined), 1000, 'the call'), /the call took longer than 1000 ms/);
	await env.advance(1000);
	await late;
	const abort = new AbortController();
	const given = assert.rejects(bounded(env, new Promise(() => undefined), 1000, 'it', abort.signal), /given up/);
	abort.abort(new Error('given up'));
	await given;
	await assert.rejects(bounded(env, Promise.resolve(1), 1000, 'it', abort.signal), /given up/);
	assert.equal(env.pendingTimers, 0);
});

function loop(env: VirtualEnv, attempt: (signal: AbortSignal, settled: () => void) => Promise<void>) {
	const health = new WatchHealth(env);
	let closed = 0;
	const outages = new OutageLog('s', silentLogger());
	const watch = startLoop({ service: 'web', env, outages, health, attempt, onClosed: () => closed++ });
	return { watch, health, closed: () => closed };
}

test('a loop retries failures for ever, with waits, and says so in its health', async () => {
	const env = new VirtualEnv();
	let attempts = 0;
	const { watch, health, closed } = loop(env, async () => {
		attempts++;
		throw new Error('connection refused');
	});
	await env.advance(3_600_000);
	// Waits of 2.5 s on average: an hour of them is neither a handful nor a storm.
	assert.ok(attempts > 1000 && attempts < 2500, `${attempts} attempts`);
	assert.equal(health.error, 'connection refused');
	await watch.close();
	await watch.close();
	assert.equal(closed(), 1);
	assert.equal(env.pendingTimers, 0);
	const before = attempts;
	await env.advance(60_000);
	assert.equal(attempts, before);
});

test('a loop goes on at once after an attempt that ended well, and resets its waits when one is working', async () => {
	const env = new VirtualEnv();
	const starts: number[] = [];
	const { watch } = loop(env, async (signal, settled) => {
		starts.push(env.now());
		if (starts.length <= 10) throw new Error('down');
		settled();
		if (starts.length === 11) return;
		if (starts.length === 12) throw new Error('down again');
		await new Promise((resolve) => signal.addEventListener('abort', resolve));
	});
	await env.advance(120_000);
	assert.equal(starts.length, 13);
	assert.equal(starts[11], starts[10], 'no wait after an attempt that ended well');
	assert.ok((starts[12] ?? 0) - (starts[11] ?? 0) < 100, 'the first wait is short again');
	await watch.close();
});

test('the log has one line for all watches that fail alike, and one when all are well again', () => {
	const lines: string[] = [];
	const log = (_fields: object, line: string) => lines.push(line);
	const outages = new OutageLog('s', { ...silentLogger(), warn: log, info: log } as never);
	const watches = Array.from({ length: 300 }, (_, i) => ({ service: `s${i}` }));
	for (let attempt = 0; attempt < 5; attempt++) for (const w of watches) outages.failed(w, `refused after ${attempt} ms`);
	outages.failed(watches[0] ?? assert.fail(), 'no leader');
	outages.failed(watches[0] ?? assert.fail(), 'no leader');
	for (const w of watches.slice(1)) outages.recovered(w);
	outages.recovered(watches[0] ?? assert.fail());
	outages.recovered(watches[0] ?? assert.fail());
	assert.deepEqual(lines, ['the source fails: refused after 0 ms', 'the source fails: no leader', 'the source answers again']);
	outages.failed(watches[0] ?? assert.fail(), 'refused after 7 ms');
	outages.closed(watches[0] ?? assert.fail());
	outages.failed(watches[1] ?? assert.fail(), 'refused after 8 ms');
	assert.equal(lines.length, 5, 'a watch that was closed speaks for nobody');
});

test('closing a loop in the middle of an attempt aborts it', async () => {
	const env = new VirtualEnv();
	let reason: unknown;
	const { watch } = loop(env, async (signal) => {
		await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
		reason = signal.reason;
		throw new Error('cut');
	});
	await settle();
	await watch.close();
	assert.ok(reason instanceof XdpilotError);
});

test('health tells never, up, down and stale apart', async () => {
	const env = new VirtualEnv();
	const health = new WatchHealth(env);
	const shows = () => [health.state, health.error ?? null];
	assert.deepEqual(shows(), ['never', null]);
	health.failed('refused');
	assert.deepEqual(shows(), ['never', 'refused']);
	health.good();
	assert.deepEqual(shows(), ['up', null]);
	await env.advance(1500);
	assert.equal(health.age, 1500);
	health.failed('gone');
	assert.deepEqual(shows(), ['down', 'gone']);
	health.doubt('went back');
	assert.deepEqual(shows(), ['stale', 'went back']);
	health.failed('gone');
	assert.deepEqual(shows(), ['down', 'gone']);
	health.good();
	assert.deepEqual(shows(), ['stale', 'went back']);
	health.trust();
	assert.deepEqual(shows(), ['up', null]);
});

test('a source is as well as its worst watch, and as old as its oldest answer', async () => {
	const env = new VirtualEnv();
	const [a, b] = [new WatchHealth(env), new WatchHealth(env)];
	assert.deepEqual(sourceStatus('s', 'etcd', []), { name: 's', kind: 'etcd', state: 'never', age_seconds: null, error: null });
	a.good();
	await env.advance(2000);
	assert.equal(sourceStatus('s', 'etcd', [a, b]).state, 'never');
	b.good();
	assert.deepEqual(sourceStatus('s', 'etcd', [a, b]), { name: 's', kind: 'etcd', state: 'up', age_seconds: 2, error: null });
	a.doubt('odd');
	b.failed('refused');
	assert.deepEqual(sourceStatus('s', 'etcd', [a, b]), { name: 's', kind: 'etcd', state: 'down', age_seconds: 2, error: 'refused' });
	b.good();
	assert.equal(sourceStatus('s', 'etcd', [a, b]).error, 'odd');
});

function publisher(env = new VirtualEnv()) {
	const told: Snapshot[] = [];
	const p = new Publisher({ source: 's', service: 'web', env, logger: silentLogger(), listener: (s) => told.push(s) });
	const answer = (instances: Instance[], kinds?: ReadonlyMap<string, AbsenceKind>, rejected: Snapshot['rejected'] = []) =>
		p.publish({ revision: String(told.length), observedAt: env.now(), instances, rejected }, kinds);
	return { p, told, answer, env };
}

test('only news is told: content, not revision or order', () => {
	const { told, answer } = publisher();
	answer([]);
	answer([]);
	answer([instance('b'), instance('a')]);
	answer([instance('a'), instance('b')]);
	answer([instance('a'), instance('b', { weight: 2 })]);
	answer([instance('a'), instance('b', { weight: 2 })], undefined, [{ instance: 'c', reason: 'bad' }]);
	assert.deepEqual(
		told.map((s) => s.instances.map((i) => `${i.id}${i.weight}`).join()),
		['', 'a1,b1', 'a1,b2', 'a1,b2'],
	);
});

test('an absence without a kind is missing, or blank when nothing is left', () => {
	const { told, answer } = publisher();
	answer([instance('a'), instance('b')]);
	answer([instance('b')]);
	answer([]);
	assert.deepEqual(
		told.map((s) => s.absences),
		[[], [{ instance: 'a', kind: 'missing' }], [{ instance: 'b', kind: 'blank' }]],
	);
});

test('an explanation that comes later is news, once', () => {
	const { p, told, answer } = publisher();
	answer([instance('a'), instance('b')]);
	answer([instance('b')]);
	assert.deepEqual(
		p.vanished([instance('b')]).doubted.map((i) => i.id),
		['a'],
	);
	answer([instance('b')], new Map([['a', 'deregistered']]));
	answer([instance('b')], new Map([['a', 'deregistered']]));
	assert.deepEqual(
		told.slice(2).map((s) => s.absences),
		[[{ instance: 'a', kind: 'deregistered' }]],
	);
});

test('doubts end when the instance returns, with its history, and after an hour', async () => {
	const { p, answer, env } = publisher();
	const doubted = () => p.vanished(p.last?.instances ?? []).doubted.map((i) => i.id);
	answer([instance('a'), instance('b')]);
	answer([instance('b')]);
	assert.deepEqual(doubted(), ['a']);
	answer([instance('a'), instance('b')]);
	assert.deepEqual(doubted(), []);
	answer([instance('b')]);
	p.forgetDoubts();
	assert.deepEqual(doubted(), []);
	answer([instance('a'), instance('b')]);
	answer([instance('b')]);
	await env.advance(3_600_001);
	answer([instance('b')]);
	assert.deepEqual(doubted(), []);
});

test('a closed publisher tells nothing more', () => {
	const { p, told, answer } = publisher();
	answer([]);
	p.close();
	answer([instance('a')]);
	assert.equal(told.length, 1);
});

test('every change of the set is told exactly once, whatever happens', () => {
	const set = fc.uniqueArray(fc.constantFrom<string[]>('a', 'b', 'c', 'd'));
	const kind = fc.constantFrom<AbsenceKind>('deregistered', 'lease-expired', 'node-gone', 'missing', 'blank');
	fc.assert(
		fc.property(fc.array(fc.tuple(set, fc.dictionary(fc.constantFrom('a', 'b', 'c', 'd'), kind))), (rounds) => {
			const { told, answer } = publisher();
			let before: string[] = [];
			for (const [ids, kinds] of rounds) {
				const count = told.length;
				answer(
					ids.map((id) => instance(id)),
					new Map(Object.entries(kinds)),
				);
				const absent = told.slice(count).flatMap((s) => s.absences.map((a) => a.instance));
				assert.equal(new Set(absent).size, absent.length);
				for (const id of before) assert.equal(absent.includes(id), !ids.includes(id), 'what went is told when it goes');
				for (const id of absent) assert.ok(!ids.includes(id), 'what is there is not absent');
				before = ids;
			}
		}),
	);
});

test('the pace slows while quick answers say nothing new, and recovers with news', async () => {
	const env = new VirtualEnv();
	const pace = new Pace(env, { minMs: 75, idleMs: 300 });
	const next = (isNews: boolean) => pace.next(env.now(), isNews);
	assert.deepEqual([next(true), next(true), next(true)], [75, 75, 75]);
	assert.deepEqual([next(false), next(false), next(false), next(false), next(false), next(false)], [75, 75, 75, 150, 300, 300]);
	assert.equal(next(true), 75);
	const startedAt = env.now();
	await env.advance(1000);
	assert.equal(pace.next(startedAt, false), 0, 'a query that waited long is followed at once');
});

test('foreign text can not forge a line, and different texts stay different', () => {
	assert.equal(printable('node/web-1'), 'node/web-1');
	assert.equal(printable('a\nb'), 'a\\u{a}b');
	assert.equal(printable('a\u202eb'), 'a\\u{202e}b');
	fc.assert(
		fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (a, b) => {
			assert.ok(!/[\p{C}\p{Zl}\p{Zp}]/u.test(printable(a)));
			assert.equal(printable(a) === printable(b), a === b);
		}),
	);
});
