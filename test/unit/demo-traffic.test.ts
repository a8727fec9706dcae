// SPDX-License-Identifier: Apache-2.0
// The demo's client against the demo's server, on loopback: both write down the same flows under the same names, and
// failures are seen as failures.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { type TestContext, test } from 'node:test';
import { type Exchange, flowEnds, flowKey, type LoadPlan, type Target } from '../../src/demo/traffic/exchange.ts';
import { Load } from '../../src/demo/traffic/load.ts';
import { DemoServer } from '../../src/demo/traffic/server.ts';
import { type Env, systemEnv } from '../../src/env.ts';
import { address } from '../../src/model/address.ts';

const LOOPBACK = address('127.0.0.1');
const DEADLINE_MS = 10_000;

/** Listens on a port of the kernel's choice, and gives it back. */
async function freePort(): Promise<number> {
	const server = createServer().listen(0, LOOPBACK);
	await once(server, 'listening');
	const port = (server.address() as { port: number }).port;
	server.close();
	await once(server, 'close');
	return port;
}

function plan(target: Target, more: Partial<LoadPlan>): LoadPlan {
	return {
		targets: [target],
		sources: [LOOPBACK],
		newPerSecond: 0,
		kept: 0,
		datagramFlows: 0,
		paceMs: 5,
		deadlineMs: 1000,
		...more,
	};
}

/** Runs a load until `enough` accepts its record, or fails the test. */
async function run(
	t: TestContext,
	loadPlan: LoadPlan,
	enough: (all: readonly Exchange[]) => boolean,
	env: Env = systemEnv,
): Promise<Exchange[]> {
	const record: Exchange[] = [];
	let onEnough: () => void = () => {};
	const load = new Load(env, loadPlan, (e) => {
		record.push(e);
		if (enough(record)) onEnough();
	});
	t.after(() => load.stop());
	await new Promise<void>((resolve, reject) => {
		const inVain = () => reject(new Error(`not enough after ${DEADLINE_MS} ms: ${JSON.stringify(record.slice(-3))}`));
		const timer = setTimeout(inVain, DEADLINE_MS);
		onEnough = () => {
			clearTimeout(timer);
			resolve();
		};
		load.start();
	});
	await load.stop();
	return record;
}

test('client and server name the same flows, TCP and UDP', async (t) => {
	const target: Target = { address: LOOPBACK, port: await freePort() };
	const server = new DemoServer(systemEnv, 'b7');
	await server.listen([target]);
	t.after(() => server.close());
	const kinds = ['new', 'kept', 'datagram'] as const;
	const record = await run(t, plan(target, { newPerSecond: 50, kept: 2, datagramFlows: 2 }), (all) =>
		kinds.every((kind) => all.filter((e) => e.kind === kind).length >= 10),
	);
	assert.deepEqual([...new Set(record.map((e) => `${e.backend} ${e.error}`))], ['b7 null']);
	const seen = server.takeSeen();
	assert.deepEqual(new Set(seen.map((s) => s.flow)), new Set(record.map((e) => e.flow)));
	for (const s of seen) assert.equal(s.requests, record.filter((e) => e.flow === s.flow).length, s.flow);
	assert.equal(new Set(record.filter((e) => e.kind === 'kept').map((e) => e.flow)).size, 2);
	assert.equal(new Set(record.filter((e) => e.kind === 'datagram').map((e) => e.flow)).size, 2);
});

test('a refused connection, a silent server and a broken one are failures, and the flow is replaced', async (t) => {
	const refused = await run(t, plan({ address: LOOPBACK, port: await freePort() }, { newPerSecond: 50 }), (all) => all.length >= 3);
	assert.ok(refused.every((e) => e.backend === null && /ECONNREFUSED/.test(e.error ?? '')));

	const silent = await listen(t, () => {});
	const late = await run(t, plan(silent, { kept: 1, deadlineMs: 50 }), (all) => all.length >= 2);
	assert.ok(late.every((e) => e.error === 'no answer in 50 ms'));
	assert.equal(new Set(late.map((e) => e.flow)).size, late.length);

	const broken = await listen(t, (socket) => socket.end('HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n'));
	const wrong = await run(t, plan(broken, { kept: 1 }), (all) => all.length >= 2);
	assert.ok(wrong.every((e) => e.error?.startsWith('unexpected answer')));
});

test('a flow key gives back its two ends', () => {
	const key = flowKey(address('fd77::2'), 1024, address('2001:db8::1'), 80, 'udp');
	assert.deepEqual(flowEnds(key), { source: '[fd77::2]:1024', dest: '[2001:db8::1]:80/udp' });
});

async function listen(t: TestContext, onSocket: (socket: import('node:net').Socket) => void): Promise<Target> {
	const server: Server = createServer((socket) => {
		socket.on('error', () => {});
		t.after(() => socket.destroy());
		onSocket(socket);
	}).listen(0, LOOPBACK);
	await once(server, 'listening');
	t.after(() => server.close());
	return { address: LOOPBACK, port: (server.address() as { port: number }).port };
}
