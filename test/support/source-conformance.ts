// SPDX-License-Identifier: Apache-2.0
// What every source promises, as one suite against the real thing. A subject brings its source and a way to write to
// its registry as an owner of backends would.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isXdpilotError } from '../../src/errors.ts';
import type { BackendState } from '../../src/model/backend.ts';
import type { ServiceQuery, Source } from '../../src/sources/source.ts';
import { until } from './server-process.ts';
import { SnapshotLog } from './snapshot-log.ts';

export interface Registered {
	readonly address: string;
	readonly port: number;
	readonly weight: number;
	/** What the registry says of its health or its owner's wishes. */
	readonly state: BackendState;
}

export interface RegistrySubject {
	/** Makes a source on this registry, reached through something that counts connections. */
	createSource(): Source;
	/** Registers, or changes, one instance. */
	set(service: string, id: string, instance: Registered): Promise<void>;
	remove(service: string, id: string): Promise<void>;
	/** Makes the entry useless without removing it. */
	spoil(service: string, id: string): Promise<void>;
	/** Writes what is there once more, so that the registry reports a change that is none. */
	rewrite(service: string): Promise<void>;
	/** Makes the registry unreachable. */
	takeAway(): Promise<void>;
	/** Open connections (or watched folders) that sources hold. */
	held(): number;
	dispose(): Promise<void>;
}

export const query = (service: string): ServiceQuery => ({ service, tags: [] });
const plain = (n: number, over: Partial<Registered> = {}): Registered => ({
	address: `10.0.0.${n}`,
	port: 8080,
	weight: 1,
	state: 'active',
	...over,
});

type Body = (subject: RegistrySubject, source: Source) => Promise<void>;
type Check = (title: string, body: Body) => void;

/** Registers the suite for one kind of source. */
export function sourceConformance(kind: string, factory: () => Promise<RegistrySubject>, skip: string | false = false): void {
	const check: Check = (title, body) =>
		test(`${kind}: ${title}`, { skip, timeout: 60_000 }, async () => {
			const subject = await factory();
			const source = subject.createSource();
			try {
				await body(subject, source);
			} finally {
				await source.close();
				await subject.dispose();
			}
		});
	content(check);
	news(check);
	departures(check);
	listeners(check);
	closing(check);
	reading(check);
}

function content(check: Check): void {
	check('tells what is registered, with address, port and weight', async (subject, source) => {
		await subject.set('web', 'a', plain(1, { weight: 7 }));
		const log = new SnapshotLog();
		source.watch(query('web'), log.listener);
		const first = await log.seenAddresses('10.0.0.1');
		assert.deepEqual(first.absences, []);
		assert.equal(first.source, source.name);
		assert.equal(first.service, 'web');
		const { port, weight, state, local } = first.instances[0] ?? assert.fail();
		assert.deepEqual({ port, weight, state, local }, { port: 8080, weight: 7, state: 'active', local: false });
		assert.equal(source.status().state, 'up');
		assert.equal(source.status().error, null);
	});

	check('tells at once that nothing is registered', async (_subject, source) => {
		const log = new SnapshotLog();
		assert.equal(source.status().state, 'never');
		source.watch(query('nobody'), log.listener);
		const first = await log.seen('the first snapshot', () => true);
		assert.deepEqual([first.instances, first.absences], [[], []]);
	});

	check('lists instances in one order, however they were registered', async (subject, source) => {
		for (const n of [3, 1, 2]) await subject.set('web', `i${n}`, plain(n));
		const log = new SnapshotLog();
		source.watch(query('web'), log.listener);
		await log.seenAddresses('10.0.0.1', '10.0.0.2', '10.0.0.3');
		const ids = log.last?.instances.map((i) => i.id) ?? [];
		assert.deepEqual(ids, [...ids].sort());
	});

	check('keeps services apart whose names begin alike', async (subject, source) => {
		await subject.set('web2', 'x', plain(9));
		await subject.set('web', 'a', plain(1));
		const log = new SnapshotLog();
		source.watch(query('web'), log.listener);
		await log.seenAddresses('10.0.0.1');
	});

	check('refuses a spoilt entry alone, with a reason', async (subject, source) => {
		await subject.set('web', 'a', plain(1));
		await subject.set('web', 'b', plain(2));
		const log = new SnapshotLog();
		source.watch(query('web'), log.listener);
		const before = await log.seenAddresses('10.0.0.1', '10.0.0.2');
		await subject.spoil('web', 'b');
		const after = await log.seenAddresses('10.0.0.1');
		assert.equal(after.rejected.length, 1);
		assert.notEqual(after.rejected[0]?.reason, '');
		const id = before.instances.find((i) => i.address === '10.0.0.2')?.id ?? assert.fail();
		assert.notEqual(log.absence(id), 'deregistered', 'nobody deregistered it');
		await subject.set('web', 'b', plain(2));
		const mended = await log.seenAddresses('10.0.0.1', '10.0.0.2');
		assert.deepEqual(mended.rejected, []);
	});
}

function news(check: Check): void {
	check('follows registrations, weights and states', async (subject, source) => {
		const log = new SnapshotLog();
		source.watch(query('web'), log.listener);
		await log.seen('the first snapshot', () => true);
		await subject.set('web', 'a', plain(1));
		await log.seenAddresses('10.0.0.1');
		await subject.set('web', 'b', plain(2));
		await log.seenAddresses('10.0.0.1', '10.0.0.2');
		await subject.set('web', 'a', plain(1, { weight: 40 }));
		await log.seen('weight 40', () => log.instance('10.0.0.1')?.weight === 40);
		await subject.set('web', 'a', plain(1, { state: 'down' }));
		await log.seen('state down', () => log.instance('10.0.0.1')?.state === 'down');
		await subject.set('web', 'a', plain(1, { state: 'draining' }));
		await log.seen('state draining', () => log.instance('10.0.0.1')?.state === 'draining');
		await subject.set('web', 'a', plain(1));
		await log.seen('state active', () => log.instance('10.0.0.1')?.state === 'active');
		assert.ok(log.snapshots.every((s) => s.absences.length === 0));
	});

	check('says nothing when the registry reports a change that is none', async (subject, source) => {
		await subject.set('web', 'a', plain(1));
		const log = new SnapshotLog();
		source.watch(query('web'), log.listener);
		await log.seenAddresses('10.0.0.1');
		for (let i = 0; i < 5; i++) await subject.rewrite('web');
		// What comes next shows that the source has been past the rewrites.
		await subject.set('web', 'b', plain(2));
		await log.seenAddresses('10.0.0.1', '10.0.0.2');
		assert.equal(log.count, 2);
	});
}

function departures(check: Check): void {
	check('tells a deregistration as the act of its owner, also the last one', async (subject, source) => {
		for (const n of [1, 2, 3]) await subject.set('web', `i${n}`, plain(n));
		const log = new SnapshotLog();
		source.watch(query('web'), log.listener);
		const before = await log.seenAddresses('10.0.0.1', '10.0.0.2', '10.0.0.3');
		const idOf = (address: string) => before.instances.find((i) => i.address === address)?.id ?? assert.fail();
		await subject.remove('web', 'i2');
		await log.seenAddresses('10.0.0.1', '10.0.0.3');
		assert.equal(log.absence(idOf('10.0.0.2')), 'deregistered');
		await subject.remove('web', 'i1');
		await subject.remove('web', 'i3');
		await log.seenAddresses();
		assert.equal(log.absence(idOf('10.0.0.1')), 'deregistered');
		assert.equal(log.absence(idOf('10.0.0.3')), 'deregistered');
	});

	check('tells an instance that came back as present', async (subject, source) => {
		await subject.set('web', 'a', plain(1));
		await subject.set('web', 'b', plain(2));
		const log = new SnapshotLog();
		source.watch(query('web'), log.listener);
		await log.seenAddresses('10.0.0.1', '10.0.0.2');
		await subject.remove('web', 'a');
		await log.seenAddresses('10.0.0.2');
		await subject.set('web', 'a', plain(1));
		const back = await log.seenAddresses('10.0.0.1', '10.0.0.2');
		assert.deepEqual(back.absences, []);
	});

	check('keeps silent while the registry is away, and says that it is down', async (subject, source) => {
		await subject.set('web', 'a', plain(1));
		const log = new SnapshotLog();
		source.watch(query('web'), log.listener);
		await log.seenAddresses('10.0.0.1');
		await subject.takeAway();
		await until('the source says that it is down', () => source.status().state === 'down', 30_000);
		assert.notEqual(source.status().error, null);
		assert.equal(log.count, 1);
	});
}

function listeners(check: Check): void {
	check('survives listeners that throw or reject', async (subject, source) => {
		const log = new SnapshotLog();
		source.watch(query('web'), (s) => {
			log.listener(s);
			throw new Error('a listener that throws');
		});
		const rejecting = new SnapshotLog();
		source.watch(query('web'), (s) => {
			rejecting.listener(s);
			return Promise.reject(new Error('a listener that rejects')) as never;
		});
		const other = new SnapshotLog();
		source.watch(query('web'), other.listener);
		await until('all have been told once', () => [log, rejecting, other].every((l) => l.count > 0));
		await subject.set('web', 'a', plain(1));
		for (const l of [log, rejecting, other]) await l.seenAddresses('10.0.0.1');
		assert.equal(source.status().state, 'up');
	});

	check('tells services apart to their listeners', async (subject, source) => {
		const web = new SnapshotLog();
		const api = new SnapshotLog();
		source.watch(query('web'), web.listener);
		source.watch(query('api'), api.listener);
		await subject.set('web', 'w', plain(1));
		await subject.set('api', 'a', plain(2));
		await web.seenAddresses('10.0.0.1');
		await api.seenAddresses('10.0.0.2');
	});

	check('lets a listener close its own watch', async (subject, source) => {
		const log = new SnapshotLog();
		await subject.set('web', 'a', plain(1));
		await new Promise<void>((resolve, reject) => {
			const watch = source.watch(query('web'), (s) => {
				log.listener(s);
				watch.close().then(resolve, reject);
			});
		});
		assert.equal(log.count, 1);
	});
}

function closing(check: Check): void {
	check('closes within a second, frees what it held, and calls nobody afterwards', async (subject, source) => {
		await subject.set('web', 'a', plain(1));
		const log = new SnapshotLog();
		const kept = new SnapshotLog();
		const other = subject.createSource();
		other.watch(query('web'), kept.listener);
		const watch = source.watch(query('web'), log.listener);
		await log.seenAddresses('10.0.0.1');
		await kept.seenAddresses('10.0.0.1');
		const startedAt = performance.now();
		await watch.close();
		assert.ok(performance.now() - startedAt < 1000);
		await subject.set('web', 'b', plain(2));
		await kept.seenAddresses('10.0.0.1', '10.0.0.2');
		assert.equal(log.count, 1);
		await other.close();
		await until('nothing is held', () => subject.held() <= 0, 5000);
		await watch.close();
	});

	check('closes all watches with the source, also ones that have not been answered', async (subject, source) => {
		const log = new SnapshotLog();
		for (const service of ['a', 'b', 'c']) source.watch(query(service), log.listener);
		const startedAt = performance.now();
		await source.close();
		assert.ok(performance.now() - startedAt < 1000);
		const told = log.count;
		await subject.set('a', 'x', plain(1));
		await until('nothing is held', () => subject.held() <= 0, 5000);
		assert.equal(log.count, told);
		assert.throws(() => source.watch(query('a'), log.listener));
	});
}

function reading(check: Check): void {
	check('reads once what a watch would tell', async (subject, source) => {
		await subject.set('web', 'a', plain(1));
		await subject.set('web', 'b', plain(2, { weight: 3 }));
		const log = new SnapshotLog();
		source.watch(query('web'), log.listener);
		const watched = await log.seenAddresses('10.0.0.1', '10.0.0.2');
		const read = await source.read(query('web'), AbortSignal.timeout(10_000));
		assert.deepEqual(read.instances, watched.instances);
		assert.deepEqual([read.source, read.service, read.absences], [watched.source, watched.service, []]);
	});

	check('says E_SOURCE when it can not be read', async (subject, source) => {
		await subject.takeAway();
		await assert.rejects(source.read(query('web'), AbortSignal.timeout(10_000)), (e) => isXdpilotError(e) && e.code === 'E_SOURCE');
		assert.notEqual(source.status().state, 'up');
	});
}
