// SPDX-License-Identifier: Apache-2.0
// Where watches on Consul go blind, die or run hot: an index that goes back, errors that nobody listens to, answers
// that are none, a server that never blocks, more services than connections, half a body.
import assert from 'node:assert/strict';
import type http from 'node:http';
import { test } from 'node:test';
import { type ConsulHarness, QUICK_BACKOFF, withConsul } from '../support/consul-harness.ts';
import { type ConsulServerOptions, skipWithoutConsul } from '../support/consul-server.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { reachableBytes } from '../support/heap.ts';
import { until } from '../support/server-process.ts';
import { SnapshotLog } from '../support/snapshot-log.ts';

function lossTest(title: string, body: (h: ConsulHarness) => Promise<void>, options: ConsulServerOptions = {}): void {
	test(title, { skip: skipWithoutConsul, timeout: 120_000 }, () => withConsul(body, options));
}

const isHealth = (request: http.IncomingMessage) => request.url?.startsWith('/v1/health/') === true;

lossTest('a restart with a lower index hides no change', async (h) => {
	await h.registerWeb(1);
	for (let i = 0; i < 60; i++) await h.consul.setCheck('web1', i % 2 === 0 ? 'warning' : 'passing');
	const { log, source } = h.watch(h.directly);
	await log.seenAddresses('10.0.0.1');
	await h.consul.restart();
	await h.registerWeb(1);
	await h.consul.register({ id: 'web2', service: 'web', address: '10.0.0.2', port: 80 });
	// The old index would be waited for until the wait of 30 s is over.
	await log.seen('the new instance', () => log.instance('10.0.0.2') !== undefined, 10_000);
	await log.seenAddresses('10.0.0.1', '10.0.0.2');
	await until('the source is up', () => source.status().state === 'up');
});

lossTest('an index that goes back in a running connection is not waited for', async (h) => {
	await h.registerWeb(1);
	let isRaised = true;
	// As a server that is replaced behind a balancer: the same connection, an index from before.
	h.proxy.headers = (headers) => (isRaised ? { ...headers, 'x-consul-index': '999999' } : headers);
	h.proxy.takeOver = (request) => {
		// The server would wait for the raised index.
		request.url = request.url?.replace(/index=999999/, 'index=1') ?? '';
		return false;
	};
	const { log } = h.watch();
	await log.seenAddresses('10.0.0.1');
	isRaised = false;
	await until('a query with the low index', () => h.proxy.requests.some((r) => /index=\d{1,4}&/.test(r)));
	await h.consul.register({ id: 'web2', service: 'web', address: '10.0.0.2', port: 80 });
	await log.seenAddresses('10.0.0.1', '10.0.0.2');
});

lossTest('a connection that was lost between two queries loses the index with it', async (h) => {
	await h.registerWeb(1);
	const { log } = h.watch({ tuning: { pace: { minMs: 400, idleMs: 400 } } });
	await log.seenAddresses('10.0.0.1');
	// The next query waits for its turn: no query is under way that could fail.
	h.proxy.cutAll();
	await until('the next query', () => h.proxy.requests.length === 2);
	assert.ok(!h.proxy.requests[1]?.includes('index='));
	await until('the one after that', () => h.proxy.requests.length === 3);
	assert.ok(h.proxy.requests[2]?.includes('index='));
});

lossTest('errors that nobody listens to end nothing, and the watch goes on afterwards', async (h) => {
	await h.registerWeb(1);
	const rejections: unknown[] = [];
	const onRejection = (e: unknown) => rejections.push(e);
	process.on('unhandledRejection', onRejection);
	try {
		const { log, source } = h.watch();
		await log.seenAddresses('10.0.0.1');
		h.proxy.takeOver = (_request, response) => {
			response.writeHead(500).end('rpc error: No cluster leader');
			return true;
		};
		await h.consul.setCheck('web1', 'warning');
		await until('the source is down', () => source.status().state === 'down');
		assert.match(source.status().error ?? '', /No cluster leader/);
		const { length } = h.proxy.requests;
		await until('more attempts', () => h.proxy.requests.length > length + 3);
		h.proxy.takeOver = () => false;
		await h.consul.register({ id: 'web2', service: 'web', address: '10.0.0.2', port: 80 });
		await log.seenAddresses('10.0.0.1', '10.0.0.2');
		assert.deepEqual(rejections, []);
	} finally {
		process.off('unhandledRejection', onRejection);
	}
});

const NO_ANSWERS: readonly (readonly [string, (response: http.ServerResponse) => void, RegExp])[] = [
	['without X-Consul-Index', (r) => r.writeHead(200, { 'content-type': 'application/json' }).end('[]'), /no X-Consul-Index/],
	[
		'a page of HTML',
		(r) => r.writeHead(200, { 'content-type': 'text/html', 'x-consul-index': '5' }).end('<html>sign in</html>'),
		/not JSON/,
	],
	['status 400', (r) => r.writeHead(400).end('Invalid index'), /Invalid index/],
	['status 403', (r) => r.writeHead(403).end('ACL not found'), /ACL not found/],
	['status 429', (r) => r.writeHead(429).end('rate limit'), /rate limit/],
	['an object', (r) => r.writeHead(200, { 'x-consul-index': '5' }).end('{}'), /not a list/],
	['an empty body', (r) => r.writeHead(200, { 'x-consul-index': '5' }).end(), /not JSON/],
	['no leader', (r) => r.writeHead(200, { 'x-consul-index': '5', 'x-consul-knownleader': 'false' }).end('[]'), /no leader/],
	['an index that is no number', (r) => r.writeHead(200, { 'x-consul-index': 'NaN' }).end('[]'), /no X-Consul-Index/],
];

lossTest('answers that are none are errors, never a blank, and the watch goes on afterwards', async (h) => {
	await h.registerWeb(1);
	const { log, source } = h.watch();
	await log.seenAddresses('10.0.0.1');
	for (const [title, answer, message] of NO_ANSWERS) {
		h.proxy.takeOver = (request, response) => {
			if (!isHealth(request)) return false;
			answer(response);
			return true;
		};
		await h.consul.setCheck('web1', 'passing', title);
		await until(`${title} is an error`, () => message.test(source.status().error ?? ''));
		assert.equal(source.status().state, 'down');
		h.proxy.takeOver = () => false;
		await until('the source is up', () => source.status().state === 'up');
	}
	assert.equal(log.count, 1);
});

lossTest('a server that answers at once is asked a few times a second', async (h) => {
	h.proxy.takeOver = (request, response) => {
		if (!isHealth(request)) return false;
		response.writeHead(200, { 'x-consul-index': String(h.proxy.requests.length + 1) }).end('[]');
		return true;
	};
	const { log } = h.watch();
	await log.seen('the first snapshot', () => true);
	const from = h.proxy.requests.length;
	const startedAt = performance.now();
	await until('ten more', () => h.proxy.requests.length >= from + 10);
	// Ten at the first pace alone take 0.7 s, without any limit milliseconds. A lower bound: load only lengthens it.
	assert.ok(performance.now() - startedAt > 700);
	assert.equal(log.count, 1);
});

lossTest('an index of 0 is no reason to ask all the time', async (h) => {
	h.proxy.headers = (headers) => ({ ...headers, 'x-consul-index': '0' });
	const { log } = h.watch();
	await log.seen('the first snapshot', () => true);
	await until('a query that can block', () => h.proxy.requests.some((r) => r.includes('index=1&')));
});

lossTest('other services coming and going is no news for an unknown one', async (h) => {
	const { log } = h.watch({}, { service: 'unknown' });
	await log.seen('the first snapshot', () => true);
	for (let i = 0; i < 20; i++) await h.consul.register({ id: `other${i}`, service: `other${i}`, address: '10.0.1.1', port: 80 });
	await h.consul.register({ id: 'known', service: 'unknown', address: '10.0.0.1', port: 80 });
	await log.seenAddresses('10.0.0.1');
	assert.equal(log.count, 2);
	assert.ok(h.proxy.requests.length < 25, `${h.proxy.requests.length} requests`);
});

lossTest('more services than Consul takes connections are all followed', async (h) => {
	const services = Array.from({ length: 230 }, (_, i) => `s${i}`);
	for (const service of services) await h.consul.register({ id: service, service, address: '10.0.0.1', port: 80 });
	const proxy = await FaultProxy.start(h.consul.port);
	const source = h.source({
		address: { kind: 'tcp', secure: false, host: '127.0.0.1', port: proxy.port },
		tuning: { backoff: QUICK_BACKOFF, pollMs: 1000 },
	});
	try {
		const logs = services.map((service) => {
			const log = new SnapshotLog();
			source.watch({ service, tags: [] }, log.listener);
			return log;
		});
		let most = 0;
		const watched = () => {
			most = Math.max(most, proxy.connections.length);
			return true;
		};
		await until('all have been told', () => watched() && logs.every((l) => l.count > 0), 60_000);
		for (const service of services) await h.consul.setCheck(service, 'critical');
		await until('all are told to be down', () => watched() && logs.every((l) => l.last?.instances[0]?.state === 'down'), 60_000);
		assert.ok(most <= 160, `${most} connections at a time`);
		assert.equal(source.status().state, 'up');
		const startedAt = performance.now();
		await source.close();
		assert.ok(performance.now() - startedAt < 1000);
		await until('all connections are closed', () => proxy.connections.length === 0, 5000);
	} finally {
		await source.close();
		await proxy.dispose();
	}
});

lossTest('a service that had to poll blocks as soon as it may', async (h) => {
	const source = h.source({ tuning: { maxBlocking: 1, pollMs: 100 } });
	const [first, second] = [new SnapshotLog(), new SnapshotLog()];
	const holder = source.watch({ service: 'web', tags: [] }, first.listener);
	await first.seen('the first snapshot', () => true);
	source.watch({ service: 'api', tags: [] }, second.listener);
	await second.seen('the second snapshot', () => true);
	assert.ok(!h.proxy.requests.some((r) => r.includes('/api?') && r.includes('index=')));
	await holder.close();
	await until('it blocks', () => h.proxy.requests.some((r) => r.includes('/api?') && r.includes('index=')));
});

lossTest('a body that breaks off is an error at once, not after the wait', async (h) => {
	await h.registerWeb(2);
	const { log, source } = h.watch();
	await log.seenAddresses('10.0.0.1', '10.0.0.2');
	h.proxy.takeOver = (request, response) => {
		if (!isHealth(request)) return false;
		response.writeHead(200, { 'content-type': 'application/json', 'x-consul-index': '50', 'content-length': '5000' });
		response.write('[{"Node":', () => setImmediate(() => response.socket?.destroy()));
		return true;
	};
	await h.consul.setCheck('web1', 'warning');
	await until('the source is down', () => /middle of an answer/.test(source.status().error ?? ''), 5000);
	await assert.rejects(source.read({ service: 'web', tags: [] }, AbortSignal.timeout(10_000)), /middle of an answer/);
	h.proxy.takeOver = () => false;
	await h.consul.register({ id: 'web3', service: 'web', address: '10.0.0.3', port: 80 });
	await log.seenAddresses('10.0.0.1', '10.0.0.2', '10.0.0.3');
});

lossTest('a body larger than any registry is cut off', async (h) => {
	h.proxy.takeOver = (request, response) => {
		if (!isHealth(request)) return false;
		response.writeHead(200, { 'x-consul-index': '50' });
		const flood = () => {
			while (response.write(Buffer.alloc(1 << 20, 0x20)));
			response.once('drain', flood);
		};
		flood();
		return true;
	};
	await assert.rejects(h.source().read({ service: 'web', tags: [] }, AbortSignal.timeout(20_000)), /more than \d+ bytes/);
});

lossTest('40 cuts at random moments under constant changes lose nothing', async (h) => {
	const proxy = await FaultProxy.start(h.consul.port);
	const { log, source } = h.watch({ address: { kind: 'tcp', secure: false, host: '127.0.0.1', port: proxy.port } });
	try {
		await h.registerWeb(5);
		let isWriting = true;
		let writes = 0;
		const writer = (async () => {
			while (isWriting) {
				const n = 1 + (writes++ % 9);
				if (writes % 4 === 0) await h.consul.deregister(`web${n}`).catch(() => undefined);
				else
					await h.consul.register({
						id: `web${n}`,
						service: 'web',
						address: `10.0.0.${n}`,
						port: 80,
						weights: { Passing: 1 + (writes % 7), Warning: 1 },
					});
			}
		})();
		for (let cuts = 0; cuts < 40; cuts++) {
			const before = writes;
			await until('a few writes', () => writes >= before + 2 + ((cuts * 5) % 7));
			proxy.cutAll();
		}
		isWriting = false;
		await writer;
		const fresh = await h.source().read({ service: 'web', tags: [] }, AbortSignal.timeout(10_000));
		await log.seen('the same as a fresh answer', (s) => JSON.stringify(s.instances) === JSON.stringify(fresh.instances));
		await until('the source is up', () => source.status().state === 'up');
	} finally {
		await proxy.dispose();
	}
});

lossTest('200 watches opened and closed leave no socket and no memory', async (h) => {
	await h.registerWeb(20);
	const source = h.source();
	const cycle = async () => {
		const log = new SnapshotLog();
		const watch = source.watch({ service: 'web', tags: [] }, log.listener);
		await until('a snapshot', () => log.count > 0);
		await watch.close();
	};
	for (let i = 0; i < 60; i++) await cycle();
	h.proxy.requests.length = 0;
	const before = await reachableBytes();
	for (let i = 0; i < 140; i++) await cycle();
	await until('no connection is open', () => h.proxy.connections === 0, 5000);
	h.proxy.requests.length = 0;
	const grown = (await reachableBytes()) - before;
	assert.ok(grown < 140 * 10_000, `${grown} bytes more after 140 cycles`);
});
