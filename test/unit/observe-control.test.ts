// SPDX-License-Identifier: Apache-2.0
// The control socket against a faked addon: who may connect and change, what lies at its path, bad clients.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { type ErrorCode, isXdpilotError, XdpilotError } from '../../src/errors.ts';
import { silentLogger } from '../../src/log.ts';
import { requestControl } from '../../src/observe/control-client.ts';
import { type ControlServerOptions, startControlServer } from '../../src/observe/control-server.ts';
import { flowQuery } from '../../src/observe/flow-query.ts';
import { type UserDatabase, userDatabase } from '../../src/observe/groups.ts';
import { buildStatus } from '../../src/observe/status.ts';
import { explainFlow } from '../../src/observe/why.ts';
import { NOON, statusInputs } from '../support/status-inputs.ts';

const ME = process.geteuid?.() ?? 0;
const NOBODY = { pid: 1, uid: 65_534, gid: 65_534 };

function folder(t: TestContext): string {
	const dir = mkdtempSync(path.join(tmpdir(), 'xdpilot-control-'));
	t.after(() => rmSync(dir, { recursive: true, force: true }));
	return dir;
}

const users: UserDatabase = {
	group: (name) => (name === 'ops' ? { gid: process.getegid?.() ?? 0, members: ['alice'] } : undefined),
	userName: (uid) => (uid === 1001 ? 'alice' : undefined),
};

function options(socket: string, over: Partial<ControlServerOptions> = {}): ControlServerOptions {
	return {
		socket,
		group: undefined,
		users,
		logger: silentLogger(),
		peerCredentials: () => ({ pid: process.pid, uid: 0, gid: 0 }),
		handlers: {
			status: () => buildStatus(statusInputs()),
			why: (flow) =>
				explainFlow({
					waiting: [],
					flow,
					verdict: {
						vip: null,
						pool: null,
						via: 'none',
						backend: null,
						entry: null,
						slot: null,
						ringBackend: null,
						generation: null,
						drop: null,
					},
					pool: undefined,
					now: NOON,
				}),
			reload: () => Promise.resolve({ schema: 'xdpilot.reload/v1', changes: ['pool web: drain 30s -> 10s'], at_next_start: [] }),
		},
		...over,
	};
}

async function serve(t: TestContext, over: Partial<ControlServerOptions> = {}): Promise<string> {
	const socket = path.join(folder(t), 'control.sock');
	const server = await startControlServer(options(socket, over));
	t.after(() => server.close());
	return socket;
}

async function refused(code: ErrorCode, message: RegExp, work: Promise<unknown>): Promise<void> {
	await assert.rejects(work, (e) => isXdpilotError(e) && e.code === code && message.test(e.message));
}

test('serves status and why, and leaves nothing behind but the socket', async (t) => {
	const socket = await serve(t);
	assert.deepEqual(await requestControl({ socket, method: 'GET', path: '/status' }), buildStatus(statusInputs()));
	const why = (await requestControl({ socket, method: 'GET', path: `/why?${flowQuery('192.0.2.7:1', '192.0.2.8:2/udp')}` })) as {
		vip: unknown;
	};
	assert.equal(why.vip, null);
	assert.deepEqual(readdirSync(path.dirname(socket)), ['control.sock']);
});

test('the socket is for its owner and group only, in a folder that others can not enter', async (t) => {
	const socket = path.join(folder(t), 'run', 'control.sock');
	const server = await startControlServer(options(socket));
	assert.equal(statSync(socket).mode & 0o777, 0o660);
	assert.equal(statSync(path.dirname(socket)).mode & 0o777, 0o750);
	await server.close();
	assert.equal(existsSync(socket), false);
});

test('changes need root, the own user, or a member of the group', async (t) => {
	const peers = [
		NOBODY,
		{ ...NOBODY, uid: 0 },
		{ ...NOBODY, uid: ME },
		{ ...NOBODY, uid: 1001 },
		{ ...NOBODY, gid: process.getegid?.() ?? 0 },
	];
	const allowed = async (group: string | undefined) => {
		const outcomes: boolean[] = [];
		for (const peer of peers) {
			const socket = await serve(t, { group, peerCredentials: () => peer });
			const outcome = await requestControl({ socket, method: 'POST', path: '/reload' }).catch((e: unknown) => e);
			assert.ok(!(outcome instanceof Error) || (isXdpilotError(outcome) && outcome.code === 'E_PERMISSION'), String(outcome));
			outcomes.push(!(outcome instanceof Error));
		}
		return outcomes;
	};
	assert.deepEqual(await allowed(undefined), [false, true, true, false, false]);
	assert.deepEqual(await allowed('ops'), [false, true, true, true, true]);
});

test('reading needs no more than the socket', async (t) => {
	const socket = await serve(t, { peerCredentials: () => NOBODY });
	assert.ok(await requestControl({ socket, method: 'GET', path: '/status' }));
});

test('a group that does not exist is named', async (t) => {
	await refused(
		'E_CONTROL',
		/the group wheel2 of control\.group does not exist/,
		startControlServer(options(path.join(folder(t), 's'), { group: 'wheel2' })),
	);
});

test('nothing is written outside the folder of the socket', async (t) => {
	const outer = folder(t);
	const socket = path.join(outer, 'run', 'control.sock');
	mkdirSync(path.dirname(socket), { mode: 0o750 });
	const before = statSync(outer, { bigint: true }).mtimeNs;
	const server = await startControlServer(options(socket));
	await server.close();
	assert.equal(statSync(outer, { bigint: true }).mtimeNs, before);
});

test('a path of the greatest length that the schema allows can be listened at', async (t) => {
	const dir = folder(t);
	const socket = path.join(dir, 'x'.repeat(93 - dir.length), 's');
	assert.equal(socket.length, 96);
	const server = await startControlServer(options(socket));
	assert.ok(await requestControl({ socket, method: 'GET', path: '/status' }));
	await server.close();
});

test('a stale socket is replaced', async (t) => {
	const socket = path.join(folder(t), 'control.sock');
	const stale = createServer();
	await new Promise<void>((resolve) => stale.listen(`${socket}.old`, resolve));
	const { renameSync } = await import('node:fs');
	renameSync(`${socket}.old`, socket);
	await new Promise((resolve) => stale.close(resolve));
	assert.ok(existsSync(socket));
	const server = await startControlServer(options(socket));
	t.after(() => server.close());
	assert.ok(await requestControl({ socket, method: 'GET', path: '/status' }));
});

test('a live daemon keeps its socket', async (t) => {
	const socket = await serve(t);
	await refused('E_CONTROL', /another daemon answers on/, startControlServer(options(socket)));
	assert.ok(await requestControl({ socket, method: 'GET', path: '/status' }));
	assert.deepEqual(readdirSync(path.dirname(socket)), ['control.sock']);
});

test('what is not a socket of ours is never touched', async (t) => {
	const dir = folder(t);
	writeFileSync(path.join(dir, 'file'), 'precious');
	symlinkSync(path.join(dir, 'file'), path.join(dir, 'link'));
	symlinkSync(path.join(dir, 'nowhere'), path.join(dir, 'dangling'));
	mkdirSync(path.join(dir, 'sub'));
	await refused('E_CONTROL', /file is no socket/, startControlServer(options(path.join(dir, 'file'))));
	await refused('E_CONTROL', /link is a symbolic link/, startControlServer(options(path.join(dir, 'link'))));
	await refused('E_CONTROL', /dangling is a symbolic link/, startControlServer(options(path.join(dir, 'dangling'))));
	await refused('E_CONTROL', /sub is no socket/, startControlServer(options(path.join(dir, 'sub'))));
	await refused('E_CONTROL', /file is not a folder/, startControlServer(options(path.join(dir, 'file', 's'))));
	assert.deepEqual(readdirSync(dir).sort(), ['dangling', 'file', 'link', 'sub']);
});

test('a folder that everyone may write to is refused', async (t) => {
	const dir = path.join(folder(t), 'open');
	mkdirSync(dir);
	const { chmodSync } = await import('node:fs');
	chmodSync(dir, 0o777);
	await refused('E_CONTROL', /may be written by everyone/, startControlServer(options(path.join(dir, 's'))));
});

test('closing removes the own socket, not a successor at its path', async (t) => {
	const socket = path.join(folder(t), 'control.sock');
	const first = await startControlServer(options(socket));
	rmSync(socket);
	const second = await startControlServer(options(socket));
	t.after(() => second.close());
	await first.close();
	assert.ok(await requestControl({ socket, method: 'GET', path: '/status' }));
});

test('a failing daemon answers with the error and lives on', async (t) => {
	const failures = [new XdpilotError('E_DATAPATH', 'the map is gone', { hint: 'restart it' }), new TypeError('a bug'), 'a string'];
	const next = failures.values();
	const socket = await serve(t, {
		handlers: {
			...options('').handlers,
			status: () => {
				throw next.next().value;
			},
		},
	});
	await assert.rejects(
		requestControl({ socket, method: 'GET', path: '/status' }),
		(e) => isXdpilotError(e) && e.code === 'E_DATAPATH' && e.message === 'the map is gone' && e.hint === 'restart it',
	);
	await refused('E_INTERNAL', /^a bug$/, requestControl({ socket, method: 'GET', path: '/status' }));
	await refused('E_INTERNAL', /^a string$/, requestControl({ socket, method: 'GET', path: '/status' }));
	assert.ok(await requestControl({ socket, method: 'GET', path: `/why?${flowQuery('192.0.2.7:1', '192.0.2.8:2/udp')}` }));
});

test('unknown requests and flows that are none are usage errors', async (t) => {
	const socket = await serve(t);
	for (const [method, target] of [
		['GET', '/'],
		['POST', '/status'],
		['GET', '/reload'],
		['GET', '/why'],
		['GET', '/why?source=x&dest=y'],
		['GET', '//x'],
	] as const) {
		await refused('E_USAGE', /./, requestControl({ socket, method, path: target }));
	}
});

test('garbage, huge headers, silence and broken-off requests leave the socket working', { timeout: 20_000 }, async (t) => {
	const socket = await serve(t);
	const talk = (bytes: string) =>
		new Promise<string>((resolve) => {
			const client = connect(socket, () => client.write(bytes));
			let answer = '';
			client.on('data', (chunk) => {
				answer += String(chunk);
			});
			client.on('error', () => undefined);
			client.on('close', () => resolve(answer));
		});
	await talk('\0\x01\x02 garbage\r\n\r\n');
	await talk(`GET /status HTTP/1.1\r\nhost: x\r\nlong: ${'x'.repeat(100_000)}\r\n\r\n`);
	const silent = connect(socket);
	const half = connect(socket, () => half.write('GET /sta'));
	const aborted = request({ socketPath: socket, path: '/status' });
	aborted.on('error', () => undefined);
	aborted.end();
	aborted.destroy();
	assert.ok(await requestControl({ socket, method: 'GET', path: '/status' }));
	silent.destroy();
	half.destroy();
});

test('the client says what is wrong when there is no daemon', async (t) => {
	const dir = folder(t);
	writeFileSync(path.join(dir, 'file'), '');
	await refused(
		'E_DAEMON_UNREACHABLE',
		/there is no socket/,
		requestControl({ socket: path.join(dir, 'absent'), method: 'GET', path: '/status' }),
	);
	await refused('E_DAEMON_UNREACHABLE', /file/, requestControl({ socket: path.join(dir, 'file'), method: 'GET', path: '/status' }));
	const mute = createServer();
	await new Promise<void>((resolve) => mute.listen(path.join(dir, 'mute'), resolve));
	t.after(() => mute.close());
	await refused(
		'E_DAEMON_UNREACHABLE',
		/does not answer within 50 ms/,
		requestControl({ socket: path.join(dir, 'mute'), method: 'GET', path: '/status', timeoutMs: 50 }),
	);
});

test('groups and users are read from the system files', (t) => {
	const etc = folder(t);
	writeFileSync(path.join(etc, 'group'), 'root:x:0:\nops:x:1005:alice,bob\n');
	writeFileSync(path.join(etc, 'passwd'), 'root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::/:/bin/sh\n');
	const database = userDatabase(etc);
	assert.deepEqual(database.group('ops'), { gid: 1005, members: ['alice', 'bob'] });
	assert.deepEqual(database.group('1005'), { gid: 1005, members: ['alice', 'bob'] });
	assert.deepEqual(database.group('77'), { gid: 77, members: [] });
	assert.equal(database.group('nope'), undefined);
	assert.equal(database.userName(1001), 'alice');
	assert.equal(database.userName(5), undefined);
});
