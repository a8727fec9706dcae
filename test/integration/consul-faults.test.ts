// SPDX-License-Identifier: Apache-2.0
// What Consul's answers mean, and what its silence means: checks, weights, maintenance; how instances went when the
// token lost its rights, the data was wiped, a node left; frozen and restarted agents; TLS and Unix sockets.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isXdpilotError } from '../../src/errors.ts';
import { writeCertificates } from '../support/certificates.ts';
import { type ConsulHarness, withConsul } from '../support/consul-harness.ts';
import { type ConsulServerOptions, NODE, skipWithoutConsul } from '../support/consul-server.ts';
import { freePorts, until } from '../support/server-process.ts';
import { SnapshotLog } from '../support/snapshot-log.ts';

function consulTest(title: string, body: (h: ConsulHarness) => Promise<void>, options: ConsulServerOptions = {}): void {
	test(title, { skip: skipWithoutConsul, timeout: 120_000 }, () => withConsul(body, options));
}

/** A node without an agent, with one instance of `web`. */
const outsideNode = (node: string, address: string) => ({
	Node: node,
	Address: address,
	Service: { ID: `web-${node}`, Service: 'web', Address: '', Port: 80 },
	Check: { CheckID: 'serfHealth', Name: 'alive', Status: 'passing', ServiceID: '' },
});

consulTest('checks, weights and maintenance become states', async (h) => {
	const { consul } = h;
	await consul.register({ id: 'a', service: 'web', address: '', port: 80, weights: { Passing: 9, Warning: 3 } });
	const { log } = h.watch();
	const shows = (state: string, weight: number, reason: string) =>
		log.seen(`${state} ${weight} ${reason}`, ({ instances: [i] }) => i?.state === state && i.weight === weight && i.reason === reason);
	await shows('active', 9, 'passing');
	assert.equal(log.addresses[0], '127.0.0.1', 'without an address of its own it has the address of its node');
	await consul.setCheck('a', 'warning');
	await shows('active', 3, 'warning');
	await consul.setCheck('a', 'critical');
	await shows('down', 9, 'check-failed');
	await consul.maintenance('a', true);
	await consul.setCheck('a', 'passing');
	await shows('draining', 9, 'maintenance');
	await consul.maintenance('a', false);
	await shows('active', 9, 'passing');
	await consul.call('PUT', 'agent/maintenance?enable=true');
	await shows('draining', 9, 'maintenance');
	await consul.call('PUT', 'agent/maintenance?enable=false');
	await shows('active', 9, 'passing');
	await consul.register({ id: 'a', service: 'web', address: '10.0.0.1', port: 80, weights: { Passing: 9, Warning: 0 } });
	await consul.setCheck('a', 'warning');
	await shows('draining', 0, 'weight-zero');
});

consulTest('a node that failed takes its instances down, and one that left is gone with them', async (h) => {
	const { consul } = h;
	await consul.catalog('register', outsideNode('n2', '10.0.2.1'));
	await consul.catalog('register', outsideNode('n3', '10.0.3.1'));
	const { log } = h.watch();
	await log.seenAddresses('10.0.2.1', '10.0.3.1');
	const check = { ...outsideNode('n2', '10.0.2.1').Check, Status: 'critical' };
	await consul.catalog('register', { ...outsideNode('n2', '10.0.2.1'), Check: check });
	await log.seen('the failed node', () => log.instance('10.0.2.1')?.reason === 'node-failed');
	assert.equal(log.instance('10.0.2.1')?.state, 'down');
	await consul.catalog('deregister', { Node: 'n2' });
	await log.seenAddresses('10.0.3.1');
	assert.equal(log.absence('n2/web-n2'), 'node-gone');
	await consul.catalog('deregister', { Node: 'n3', ServiceID: 'web-n3' });
	await log.seenAddresses();
	assert.equal(log.absence('n3/web-n3'), 'deregistered');
});

consulTest('the same service id on two nodes is two instances', async (h) => {
	for (const node of ['n2', 'n3']) {
		const body = outsideNode(node, `10.0.${node.slice(1)}.1`);
		await h.consul.catalog('register', { ...body, Service: { ...body.Service, ID: 'web' } });
	}
	const { log } = h.watch();
	await log.seenAddresses('10.0.2.1', '10.0.3.1');
	await h.consul.catalog('deregister', { Node: 'n2', ServiceID: 'web' });
	await log.seenAddresses('10.0.3.1');
	assert.equal(log.absence('n2/web'), 'deregistered');
});

consulTest('instances must carry all tags, and one that loses a tag was withdrawn by its owner', async (h) => {
	const { consul } = h;
	await consul.register({ id: 'a', service: 'web', address: '10.0.0.1', tags: ['prod', 'eu'] });
	await consul.register({ id: 'b', service: 'web', address: '10.0.0.2', tags: ['prod'] });
	await consul.register({ id: 'c', service: 'web', address: '10.0.0.3', tags: ['eu', 'prod', 'x'] });
	const { log } = h.watch({}, { tags: ['prod', 'eu'] });
	await log.seenAddresses('10.0.0.1', '10.0.0.3');
	await consul.register({ id: 'a', service: 'web', address: '10.0.0.1', tags: ['eu'] });
	await log.seenAddresses('10.0.0.3');
	assert.equal(log.absence(`${NODE}/a`), 'deregistered');
	await consul.register({ id: 'c', service: 'web', address: '10.0.0.3', tags: [] });
	await log.seenAddresses();
	assert.equal(log.absence(`${NODE}/c`), 'deregistered');
});

consulTest(
	'a token that lost its rights empties nothing by proof, while an owner does',
	async (h) => {
		const { consul } = h;
		const folder = mkdtempSync(join(tmpdir(), `xdpilot-test-consul-${process.pid}-`));
		try {
			const rules = (...granted: string[]) => granted.map((what) => `${what} "" { policy = "read" }`).join('\n');
			const policy = (await consul.call('PUT', 'acl/policy', { Name: 'reader', Rules: rules('service_prefix', 'node_prefix') })) as {
				ID: string;
			};
			const grant = (...granted: string[]) => consul.call('PUT', `acl/policy/${policy.ID}`, { Name: 'reader', Rules: rules(...granted) });
			const token = (await consul.call('PUT', 'acl/token', { Policies: [{ Name: 'reader' }] })) as { SecretID: string; AccessorID: string };
			const tokenFile = join(folder, 'token');
			writeFileSync(tokenFile, `${token.SecretID}\n`);
			await h.registerWeb(3);
			// Rights alone wake no blocking query: a short round, as the resync would.
			const { log, source } = h.watch({ tokenFile, tuning: { waitMs: 300, resyncMs: 300 } });
			await log.seenAddresses('10.0.0.1', '10.0.0.2', '10.0.0.3');

			for (const left of [['node_prefix'], ['service_prefix'], []]) {
				await grant(...left);
				const blank = await log.seenAddresses();
				assert.deepEqual([...new Set(blank.absences.map((a) => a.kind))], ['blank'], `left with ${left}`);
				await grant('service_prefix', 'node_prefix');
				await log.seenAddresses('10.0.0.1', '10.0.0.2', '10.0.0.3');
			}

			for (const n of [1, 2, 3]) await consul.deregister(`web${n}`);
			await log.seenAddresses();
			for (const n of [1, 2, 3]) assert.equal(log.absence(`${NODE}/web${n}`), 'deregistered');

			await h.registerWeb(1);
			await log.seenAddresses('10.0.0.1');
			const { count } = log;
			await consul.call('DELETE', `acl/token/${token.AccessorID}`);
			await until('the token is unknown', () => /ACL not found/.test(source.status().error ?? ''));
			assert.equal(log.count, count, 'an error is no snapshot');
			const renewed = (await consul.call('PUT', 'acl/token', { Policies: [{ Name: 'reader' }] })) as { SecretID: string };
			writeFileSync(tokenFile, renewed.SecretID);
			await until('the new token is used', () => source.status().state === 'up');
		} finally {
			rmSync(folder, { recursive: true, force: true });
		}
	},
	{ withAcl: true },
);

consulTest('a token that is replaced in its file is used within a round, without an error in between', async (h) => {
	const folder = mkdtempSync(join(tmpdir(), `xdpilot-test-consul-${process.pid}-`));
	try {
		const tokenFile = join(folder, 'token');
		writeFileSync(tokenFile, 'old-token');
		const seen: unknown[] = [];
		h.proxy.takeOver = (request) => {
			seen.push(request.headers['x-consul-token']);
			return false;
		};
		const { log, source } = h.watch({ tokenFile, tuning: { waitMs: 200, resyncMs: 300 } });
		await log.seen('the first snapshot', () => true);
		writeFileSync(tokenFile, 'new-token\n');
		await until('the new token is sent', () => seen.at(-1) === 'new-token');
		assert.deepEqual([...new Set(seen)], ['old-token', 'new-token']);
		assert.equal(source.status().state, 'up');
	} finally {
		rmSync(folder, { recursive: true, force: true });
	}
});

consulTest('what ACLs are said to filter is not evidence', async (h) => {
	await h.registerWeb(2);
	const { log } = h.watch();
	await log.seenAddresses('10.0.0.1', '10.0.0.2');
	h.proxy.headers = (headers) => ({ ...headers, 'x-consul-results-filtered-by-acls': 'true' });
	await h.consul.deregister('web2');
	await log.seenAddresses('10.0.0.1');
	assert.equal(log.absence(`${NODE}/web2`), 'missing');
	h.proxy.headers = (headers) => headers;
	await h.consul.setCheck('web1', 'warning');
	await log.seen('the explanation', () => log.absence(`${NODE}/web2`) === 'deregistered');
});

consulTest('a wiped Consul is stale and empties nothing by proof', async (h) => {
	await h.registerWeb(3);
	for (let i = 0; i < 40; i++) await h.consul.setCheck('web1', i % 2 === 0 ? 'warning' : 'passing');
	const { log, source } = h.watch(h.directly);
	await log.seenAddresses('10.0.0.1', '10.0.0.2', '10.0.0.3');
	await h.consul.restart();
	const blank = await log.seenAddresses();
	assert.deepEqual([...new Set(blank.absences.map((a) => a.kind))], ['blank']);
	await until('the source is stale', () => source.status().state === 'stale');
	assert.match(source.status().error ?? '', /index went back/);
	await h.registerWeb(3);
	await log.seenAddresses('10.0.0.1', '10.0.0.2', '10.0.0.3');
	await until('the source is up', () => source.status().state === 'up');
	assert.deepEqual([...new Set(log.snapshots.flatMap((s) => s.absences.map((a) => a.kind)))], ['blank']);
});

consulTest('a wiped Consul whose index is already higher again is still not believed', async (h) => {
	await h.registerWeb(1);
	const { log, source } = h.watch();
	await log.seenAddresses('10.0.0.1');
	const { length } = h.proxy.requests;
	h.proxy.takeOver = (_request, response) => {
		response.destroy();
		return true;
	};
	await h.consul.restart();
	for (let i = 0; i < 40; i++) await h.consul.register({ id: 'other', service: 'other', port: i });
	await until('more attempts', () => h.proxy.requests.length > length + 2);
	h.proxy.takeOver = () => false;
	await log.seenAddresses();
	assert.notEqual(log.absence(`${NODE}/web1`), 'deregistered', 'the node is another one than before');
	await until('the source answers', () => source.status().state !== 'down');
});

consulTest(
	'a killed and restarted Consul costs no instance',
	async (h) => {
		await h.registerWeb(3);
		const { log, source } = h.watch(h.directly);
		await log.seenAddresses('10.0.0.1', '10.0.0.2', '10.0.0.3');
		await h.consul.stop();
		await until('the source is down', () => source.status().state === 'down');
		await h.consul.restart();
		await h.consul.register({ id: 'web4', service: 'web', address: '10.0.0.4', port: 80 });
		await log.seen('the fourth', (s) => s.instances.length === 4);
		assert.deepEqual(
			log.snapshots.flatMap((s) => s.absences),
			[],
		);
		assert.ok(log.snapshots.every((s) => s.instances.length >= 3));
	},
	{ isPersistent: true },
);

consulTest('a frozen Consul is noticed after the wait, and closing does not wait for it', async (h) => {
	await h.registerWeb(1);
	const { log, source } = h.watch({ tuning: { waitMs: 500 } });
	const idle = h.watch();
	await log.seenAddresses('10.0.0.1');
	await idle.log.seenAddresses('10.0.0.1');
	h.consul.freeze();
	try {
		await until('the source is down', () => /no answer within/.test(source.status().error ?? ''), 20_000);
		const startedAt = performance.now();
		await idle.source.close();
		assert.ok(performance.now() - startedAt < 1000);
		await assert.rejects(
			h.source().read({ service: 'web', tags: [] }, AbortSignal.timeout(300)),
			(e) => isXdpilotError(e) && e.code === 'E_SOURCE',
		);
	} finally {
		h.consul.thaw();
	}
	await until('the source is up', () => source.status().state === 'up');
	assert.equal(log.count, 1);
});

consulTest('a stale answer is taken up to a bound, and then the leader is asked', async (h) => {
	await h.registerWeb(1);
	let contact = '0';
	h.proxy.headers = (headers) => ({ ...headers, 'x-consul-lastcontact': contact });
	const { log, source } = h.watch({ isStale: true, tuning: { waitMs: 200, maxLastContactMs: 5000 } });
	await log.seenAddresses('10.0.0.1');
	assert.ok(h.proxy.requests.every((r) => !r.startsWith('/v1/health/') || r.includes('stale=1')));
	contact = '60000';
	await until('the answer is refused', () => /stale/.test(source.status().error ?? ''));
	await until('the leader is asked', () => h.proxy.requests.some((r) => r.startsWith('/v1/health/') && !r.includes('stale')));
	await until('the source is up', () => source.status().state === 'up');
	assert.equal(log.count, 1);
});

consulTest('another datacenter that is not there is an error, not a blank', async (h) => {
	const { log, source } = h.watch({}, { datacenter: 'elsewhere' });
	await until('the source says why', () => /No path to datacenter/.test(source.status().error ?? ''));
	assert.equal(source.status().state, 'never');
	assert.equal(log.count, 0);
});

consulTest('a Unix socket serves as well', async (h) => {
	await h.registerWeb(1);
	const { log } = h.watch({ address: { kind: 'unix', path: h.consul.socket } });
	await log.seenAddresses('10.0.0.1');
	await h.consul.register({ id: 'web2', service: 'web', address: '10.0.0.2', port: 80 });
	await log.seenAddresses('10.0.0.1', '10.0.0.2');
});

consulTest('a name and an IPv6 address serve as well', async (h) => {
	await h.registerWeb(1);
	const tcp = { kind: 'tcp', secure: false } as const;
	const named = await h
		.source({ address: { ...tcp, host: 'localhost', port: h.consul.port } })
		.read({ service: 'web', tags: [] }, AbortSignal.timeout(5000));
	assert.equal(named.instances.length, 1);
	const six = h
		.source({ address: { ...tcp, host: '::1', port: h.consul.port } })
		.read({ service: 'web', tags: [] }, AbortSignal.timeout(5000));
	// Consul listens on IPv4 here: what matters is that the address is connected to, not looked up as a name.
	await assert.rejects(six, /ECONNREFUSED|EADDRNOTAVAIL|ENETUNREACH/);
});

test('mutual TLS works, and without trust there is a clear error', { skip: skipWithoutConsul, timeout: 60_000 }, async () => {
	const folder = mkdtempSync(join(tmpdir(), `xdpilot-test-tls-${process.pid}-`));
	const { ca, server, client } = writeCertificates(folder);
	const other = writeCertificates(mkdtempSync(join(folder, 'other-')));
	const [port = 0] = await freePorts(1);
	const config = { https: port, ca_file: ca, cert_file: server.cert, key_file: server.key, verify_incoming_https: true };
	const { https, ...files } = config;
	try {
		await withConsul(
			async (h) => {
				await h.registerWeb(1);
				const address = { kind: 'tcp', secure: true, host: '127.0.0.1', port } as const;
				const { log } = h.watch({ address, tls: { ca, ...client } });
				await log.seenAddresses('10.0.0.1');
				for (const tls of [{ ca: other.ca, ...client }, { ca }, undefined]) {
					const read = h.source({ address, tls }).read({ service: 'web', tags: [] }, AbortSignal.timeout(5000));
					await assert.rejects(
						read,
						(e) => isXdpilotError(e) && e.code === 'E_SOURCE' && /certificate|alert|ECONNRESET|EPROTO/i.test(e.message),
					);
				}
			},
			{ httpsPort: https, config: files },
		);
	} finally {
		rmSync(folder, { recursive: true, force: true });
	}
});

test('a token that can not be read is an error that names the file', { timeout: 10_000 }, async () => {
	const { ConsulSource } = await import('../../src/sources/consul/consul-source.ts');
	const { systemEnv } = await import('../../src/env.ts');
	const { silentLogger } = await import('../../src/log.ts');
	const address = { kind: 'tcp', secure: false, host: '127.0.0.1', port: 1 } as const;
	const source = new ConsulSource({ name: 'consul', address, tokenFile: '/nonexistent/token', env: systemEnv, logger: silentLogger() });
	const log = new SnapshotLog();
	source.watch({ service: 'web', tags: [] }, log.listener);
	await until('the source says why', () => source.status().error?.includes('/nonexistent/token') === true);
	await source.close();
});
