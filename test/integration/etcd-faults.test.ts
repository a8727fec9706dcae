// SPDX-License-Identifier: Apache-2.0
// etcd that dies, freezes, forgets, expires logins or loses its leader; and how departures are told in each case.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isXdpilotError } from '../../src/errors.ts';
import type { EtcdSourceOptions } from '../../src/sources/etcd/etcd-source.ts';
import { writeCertificates } from '../support/certificates.ts';
import { type EtcdHarness, entryKey, QUICK, SERVICE, withHarness } from '../support/etcd-harness.ts';
import { EtcdServer, skipWithoutEtcd } from '../support/etcd-server.ts';
import { reachableBytes } from '../support/heap.ts';
import { until } from '../support/server-process.ts';
import { SnapshotLog } from '../support/snapshot-log.ts';

function faultTest(title: string, body: (h: EtcdHarness) => Promise<void>, etcdArgs: readonly string[] = []): void {
	test(title, { skip: skipWithoutEtcd, timeout: 120_000 }, () => withHarness(body, etcdArgs));
}

faultTest('a killed and restarted etcd costs no change and no instance', async (h) => {
	await h.putMany(0, 10);
	const { log, source } = h.watch();
	await h.converged(log);
	for (let round = 0; round < 3; round++) {
		await h.etcd.stop();
		await until('the source is down', () => source.status().state === 'down');
		await h.etcd.restart();
		await h.etcd.put(entryKey(100 + round), '10.9.9.9:80');
		await h.converged(log);
	}
	assert.deepEqual(
		log.snapshots.flatMap((s) => s.absences),
		[],
	);
	assert.ok(log.snapshots.every((s) => s.instances.length >= 10));
});

faultTest('a frozen etcd is noticed although its socket stays open, and closing does not wait for it', async (h) => {
	await h.putMany(0, 3);
	const { log, source } = h.watch({ tuning: { ...QUICK, deadlineMs: 500, probeMs: 300 } });
	const idle = h.watch();
	await h.converged(log);
	await h.converged(idle.log);
	h.etcd.freeze();
	await until('the source is down', () => source.status().state === 'down');
	const startedAt = performance.now();
	await idle.source.close();
	assert.ok(performance.now() - startedAt < 1000, 'closes a watch of a frozen member');
	h.etcd.thaw();
	await h.etcd.put(entryKey(9), '10.9.9.9:80');
	await h.converged(log);
	assert.equal(source.status().state, 'up');
});

faultTest('a frozen etcd collects no sockets of attempts that failed', async (h) => {
	await h.putMany(0, 3);
	const { log, source } = h.watch({ tuning: { ...QUICK, deadlineMs: 150, probeMs: 200 } });
	await h.converged(log);
	h.etcd.freeze();
	await until('the source is down', () => source.status().state === 'down');
	const { total } = h.proxy;
	await until('eight more attempts', () => h.proxy.total > total + 8);
	assert.ok(h.proxy.connections.length <= 2, `${h.proxy.connections.length} are open`);
	h.etcd.thaw();
	await until('the source is up', () => source.status().state === 'up');
});

faultTest('200 watches opened and closed leave no socket and no memory', async (h) => {
	await h.putMany(0, 20);
	const source = h.source();
	const cycle = async () => {
		const log = new SnapshotLog();
		const watch = source.watch({ service: 'web', tags: [] }, log.listener);
		await until('a snapshot', () => log.count > 0);
		await watch.close();
	};
	for (let i = 0; i < 60; i++) await cycle();
	const before = await reachableBytes();
	for (let i = 0; i < 140; i++) await cycle();
	await until('no connection is open', () => h.proxy.connections.length === 0, 5000);
	const grown = (await reachableBytes()) - before;
	assert.ok(grown < 140 * 10_000, `${grown} bytes more after 140 cycles`);
	assert.equal(source.status().state, 'never', 'no watch is left');
});

faultTest('pings notice a frozen etcd when nothing else is asked', async (h) => {
	const { log, source } = h.watch({ tuning: { ...QUICK, probeMs: 600_000 } });
	await log.seen('the first snapshot', () => true);
	h.etcd.freeze();
	await until('the source is down', () => source.status().state === 'down', 15_000);
	h.etcd.thaw();
	await until('the source is up', () => source.status().state === 'up');
});

faultTest('a wiped etcd is stale, what it lacks is missing, and what it has is told', async (h) => {
	await h.putMany(0, 5);
	await h.putMany(5, 6);
	const { log, source } = h.watch();
	await h.converged(log);
	await h.etcd.restartEmpty();
	const blank = await log.seen('a blank', (s) => s.instances.length === 0);
	assert.deepEqual([...new Set(blank.absences.map((a) => a.kind))], ['blank']);
	assert.equal(blank.absences.length, 6);
	await until('the source is stale', () => source.status().state === 'stale');
	assert.match(source.status().error ?? '', /went back in time/);
	await h.putMany(0, 3);
	await h.converged(log);
	assert.equal(source.status().state, 'stale', 'three are still missing');
	await h.putMany(3, 6);
	await h.converged(log);
	await until('the source is up', () => source.status().state === 'up');
	const proven = log.snapshots.flatMap((s) => s.absences).filter((a) => a.kind !== 'blank');
	assert.deepEqual(proven, [], 'nothing was explained by a history that is not theirs');
});

faultTest('a wiped etcd is believed after a complete round of being the same', async (h) => {
	await h.putMany(0, 5);
	await h.putMany(5, 6);
	const { log, source } = h.watch({ tuning: { ...QUICK, resyncMs: 1500 } });
	await h.converged(log);
	await h.etcd.restartEmpty();
	await until('the source is stale', () => source.status().state === 'stale');
	await until('the source is up', () => source.status().state === 'up');
	assert.equal(log.last?.instances.length, 0);
});

faultTest('another cluster behind the same address is noticed', async (h) => {
	const other = await EtcdServer.start();
	try {
		await h.putMany(0, 2);
		// A cluster that is further on: its revision alone would look like progress.
		for (let n = 0; n < 10; n++) await other.put(`${SERVICE}other`, '10.7.7.7:80');
		const { log, source } = h.watch();
		await h.converged(log);
		h.proxy.targetPort = other.port;
		h.proxy.cutAll();
		const after = await log.seenAddresses('10.7.7.7');
		assert.deepEqual([...new Set(after.absences.map((a) => a.kind))], ['missing']);
		assert.equal(source.status().state, 'stale');
		assert.match(source.status().error ?? '', /another cluster/);
	} finally {
		await other.dispose();
	}
});

faultTest('an expired lease, a revoked one and a deletion are told apart', async (h) => {
	const { log } = h.watch();
	const short = await h.etcd.grant(1);
	const long = await h.etcd.grant(600);
	await h.etcd.put(`${SERVICE}expires`, '10.0.0.1:80', short);
	await h.etcd.put(`${SERVICE}revoked`, '10.0.0.2:80', long);
	await h.etcd.put(`${SERVICE}deleted`, '10.0.0.3:80');
	const leased = await h.etcd.grant(600);
	await h.etcd.put(`${SERVICE}withdrawn`, '10.0.0.4:80', leased);
	await log.seen('expiry', () => log.absence(`${SERVICE}expires`) !== undefined);
	await h.etcd.revoke(long);
	await h.etcd.delete(`${SERVICE}deleted`);
	await h.etcd.delete(`${SERVICE}withdrawn`);
	await log.seenAddresses();
	assert.equal(log.absence(`${SERVICE}expires`), 'lease-expired');
	assert.equal(log.absence(`${SERVICE}revoked`), 'lease-expired');
	assert.equal(log.absence(`${SERVICE}deleted`), 'deregistered');
	assert.equal(log.absence(`${SERVICE}withdrawn`), 'deregistered', 'its lease lives');
});

faultTest('what went while the source was away is proven by a list that others are in, and a blank is not', async (h) => {
	await h.putMany(0, 4);
	const { log, source } = h.watch({ tuning: { ...QUICK, resyncMs: 1000 } });
	await h.converged(log);
	const away = async (meanwhile: () => Promise<unknown>) => {
		h.proxy.isRefusing = true;
		h.proxy.cutAll();
		await until('the source is down', () => source.status().state === 'down');
		await meanwhile();
		h.proxy.isRefusing = false;
		await h.converged(log);
	};
	await away(() => h.etcd.delete(entryKey(0)));
	assert.equal(log.absence(entryKey(0)), 'deregistered');
	await away(() => h.etcd.deletePrefix(SERVICE));
	assert.equal(log.absence(entryKey(1)), 'blank');
	assert.equal(source.status().state, 'up', 'the history is the same');
	// The next list of the same history that has something in it shows that the registry is sane.
	await h.putMany(7, 8);
	await log.seen('the explanation', () => log.absence(entryKey(1)) === 'deregistered');
	assert.equal(log.absence(entryKey(3)), 'deregistered');
});

faultTest(
	'a login is renewed when it has expired, and lost rights are an error, not a blank',
	async (h) => {
		const folder = mkdtempSync(join(tmpdir(), `xdpilot-test-etcd-${process.pid}-`));
		try {
			const token = await enableAuth(h.etcd);
			const passwordFile = join(folder, 'password');
			writeFileSync(passwordFile, 'wrong\n');
			const login: Partial<EtcdSourceOptions> = { username: 'reader', passwordFile };
			const { log, source } = h.watch({ ...login, tuning: { ...QUICK, probeMs: 600_000 } });
			await until('the login is refused', () => /authentication failed/.test(source.status().error ?? ''));
			writeFileSync(passwordFile, 'secret\n');
			await put(h.etcd, token, `${SERVICE}a`, '10.0.0.1:80');
			await log.seenAddresses('10.0.0.1');
			// Longer than the token lives (1 s), then a reconnect: only a new login helps.
			await until(
				'the token has expired',
				() =>
					h.etcd.call('kv/range', { key: '' }, token).then(
						() => false,
						() => true,
					),
				15_000,
			);
			h.proxy.cutAll();
			await put(h.etcd, await logIn(h.etcd, 'root', 'root'), `${SERVICE}b`, '10.0.0.2:80');
			await log.seenAddresses('10.0.0.1', '10.0.0.2');
			await h.etcd.call('auth/role/revoke', { role: 'reader', ...range() }, await logIn(h.etcd, 'root', 'root'));
			h.proxy.cutAll();
			await until('the rights are missed', () => /permission denied/.test(source.status().error ?? ''));
			assert.deepEqual(
				log.snapshots.flatMap((s) => s.absences),
				[],
			);
		} finally {
			rmSync(folder, { recursive: true, force: true });
		}
	},
	['--auth-token-ttl', '1'],
);

faultTest('a user for a cluster without logins does no harm', async (h) => {
	const folder = mkdtempSync(join(tmpdir(), `xdpilot-test-etcd-${process.pid}-`));
	try {
		writeFileSync(join(folder, 'password'), 'secret');
		const { log } = h.watch({ username: 'reader', passwordFile: join(folder, 'password') });
		await h.etcd.put(`${SERVICE}a`, '10.0.0.1:80');
		await log.seenAddresses('10.0.0.1');
	} finally {
		rmSync(folder, { recursive: true, force: true });
	}
});

faultTest('a member that fails is left for the next one', async (h) => {
	const endpoint = (port: number) => ({ url: `http://127.0.0.1:${port}`, secure: false, host: '127.0.0.1', port });
	const dead = endpoint(1);
	await h.etcd.put(`${SERVICE}a`, '10.0.0.1:80');
	const over = { endpoints: [dead, dead, endpoint(h.proxy.port)] };
	const { log } = h.watch(over);
	await log.seenAddresses('10.0.0.1');
	const read = await h.source(over).read({ service: 'web', tags: [] }, AbortSignal.timeout(10_000));
	assert.equal(read.instances.length, 1);
});

faultTest('a proxy that accepts and never answers is an error within the deadline', async (h) => {
	h.proxy.onData = (connection) => connection.hold('up');
	const source = h.source({ tuning: { ...QUICK, deadlineMs: 400 } });
	await assert.rejects(
		source.read({ service: 'web', tags: [] }, AbortSignal.timeout(10_000)),
		(e) => isXdpilotError(e) && e.code === 'E_SOURCE',
	);
	const log = new SnapshotLog();
	const watch = source.watch({ service: 'web', tags: [] }, log.listener);
	await until('a second attempt', () => h.proxy.total > 2);
	const startedAt = performance.now();
	await watch.close();
	assert.ok(performance.now() - startedAt < 1000);
	assert.equal(log.count, 0);
	await until('its sockets are freed', () => h.proxy.connections.length === 0, 5000);
});

test('mutual TLS works, and without trust there is a clear error', { skip: skipWithoutEtcd, timeout: 60_000 }, async () => {
	const folder = mkdtempSync(join(tmpdir(), `xdpilot-test-tls-${process.pid}-`));
	const { ca, server, client } = writeCertificates(folder);
	const other = writeCertificates(mkdtempSync(join(folder, 'other-')));
	const etcd = await EtcdServer.start(
		['--trusted-ca-file', ca, '--cert-file', server.cert, '--key-file', server.key, '--client-cert-auth'],
		{ ca, ...client },
	);
	const endpoints = [{ url: `https://127.0.0.1:${etcd.port}`, secure: true, host: '127.0.0.1', port: etcd.port }];
	const harness = (tls: EtcdSourceOptions['tls']) => etcd.sourceOn(endpoints, tls);
	try {
		await etcd.put(`${SERVICE}a`, '10.0.0.1:80');
		const good = harness({ ca, ...client });
		const read = await good.read({ service: 'web', tags: [] }, AbortSignal.timeout(10_000));
		assert.equal(read.instances[0]?.address, '10.0.0.1');
		const log = new SnapshotLog();
		good.watch({ service: 'web', tags: [] }, log.listener);
		await log.seenAddresses('10.0.0.1');
		await good.close();
		for (const tls of [{ ca: other.ca, ...client }, { ca }, undefined]) {
			const bad = harness(tls);
			await assert.rejects(
				bad.read({ service: 'web', tags: [] }, AbortSignal.timeout(10_000)),
				(e) => isXdpilotError(e) && e.code === 'E_SOURCE',
			);
		}
	} finally {
		await etcd.dispose();
		rmSync(folder, { recursive: true, force: true });
	}
});

test('a member that lost its cluster is down, not silent', { skip: skipWithoutEtcd, timeout: 120_000 }, async () => {
	const members = await EtcdServer.startCluster(3);
	const [first] = members;
	assert.ok(first);
	const endpoints = [{ url: first.url, secure: false, host: '127.0.0.1', port: first.port }];
	const source = first.sourceOn(endpoints, undefined, { ...QUICK, probeMs: 600_000 });
	try {
		await first.put(`${SERVICE}a`, '10.0.0.1:80');
		const log = new SnapshotLog();
		source.watch({ service: 'web', tags: [] }, log.listener);
		await log.seenAddresses('10.0.0.1');
		for (const member of members.slice(1)) await member.stop();
		await until('the source is down', () => source.status().state === 'down', 30_000);
		await Promise.all(members.slice(1).map((m) => m.restart()));
		await first.put(`${SERVICE}b`, '10.0.0.2:80');
		await log.seenAddresses('10.0.0.1', '10.0.0.2');
		await until('the source is up', () => source.status().state === 'up');
	} finally {
		await source.close();
		await Promise.all(members.map((m) => m.dispose()));
	}
});

async function enableAuth(etcd: EtcdServer): Promise<string> {
	await etcd.call('auth/user/add', { name: 'root', password: 'root' });
	await etcd.call('auth/user/grant', { user: 'root', role: 'root' });
	await etcd.call('auth/role/add', { name: 'reader' });
	await etcd.call('auth/role/grant', { name: 'reader', perm: { permType: 'READ', ...range() } });
	await etcd.call('auth/user/add', { name: 'reader', password: 'secret' });
	await etcd.call('auth/user/grant', { user: 'reader', role: 'reader' });
	await etcd.call('auth/enable', {});
	return logIn(etcd, 'root', 'root');
}

async function logIn(etcd: EtcdServer, name: string, password: string): Promise<string> {
	return String((await etcd.call('auth/authenticate', { name, password })).token);
}

function range() {
	const base64 = (text: string) => Buffer.from(text).toString('base64');
	return { key: base64(SERVICE), range_end: base64('/services/web0') };
}

async function put(etcd: EtcdServer, token: string, key: string, value: string): Promise<void> {
	const base64 = (text: string) => Buffer.from(text).toString('base64');
	await etcd.call('kv/put', { key: base64(key), value: base64(value) }, token);
}
