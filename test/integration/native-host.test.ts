// SPDX-License-Identifier: Apache-2.0
// What the addon offers of the host: sd_notify, peer credentials, facts of libbpf; and how it says that it is missing.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { before, describe, test } from 'node:test';
import { XdpilotError } from '../../src/errors.ts';
import { loadNative, type NativeAddon } from '../../src/native/binding.ts';
import { scratch, whyNoAddon } from '../support/native-fixtures.ts';

const skip = whyNoAddon();
const dir = scratch();
const whyNoPython = spawnSync('python3', ['--version']).error ? 'python3 is missing: it plays the service manager' : undefined;

/** A datagram socket as systemd has one (Node has none): prints the first message that it gets, and ends. */
const MANAGER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.settimeout(10)
s.bind(sys.argv[1].replace('@', '\\0', 1))
print('bound', flush=True)
print(s.recv(4096).decode(), flush=True)
`;

describe('host', { skip }, () => {
	let native: NativeAddon;
	before(() => {
		native = loadNative();
	});
	const withSocket = (socket: string | undefined, f: () => void) => {
		const before = process.env.NOTIFY_SOCKET;
		if (socket === undefined) delete process.env.NOTIFY_SOCKET;
		else process.env.NOTIFY_SOCKET = socket;
		try {
			f();
		} finally {
			if (before === undefined) delete process.env.NOTIFY_SOCKET;
			else process.env.NOTIFY_SOCKET = before;
		}
	};

	for (const [kind, socket] of [
		['path', join(dir, 'notify')],
		['abstract', `@xdpilot-notify-${process.pid}`],
	] as const) {
		test(`sdNotify reaches a socket by ${kind}`, { skip: whyNoPython }, async () => {
			const manager = spawn('python3', ['-c', MANAGER, socket], { stdio: ['ignore', 'pipe', 'inherit'] });
			try {
				const said: string[] = [];
				for await (const line of createInterface(manager.stdout)) {
					said.push(line);
					if (line === 'bound') withSocket(socket, () => assert.equal(native.sdNotify('READY=1\nSTATUS=üp'), true));
				}
				assert.deepEqual(said, ['bound', 'READY=1', 'STATUS=üp']);
			} finally {
				manager.kill();
			}
		});
	}

	test('without a service manager sdNotify does nothing and says so', () => {
		withSocket(undefined, () => assert.equal(native.sdNotify('READY=1'), false));
		withSocket('', () => assert.equal(native.sdNotify('READY=1'), false));
	});

	test('a notify socket that can\u2019t be reached is an error with its path', () => {
		const none = join(dir, 'none');
		withSocket(none, () => assert.throws(() => native.sdNotify('READY=1'), { code: 'ENOENT', syscall: 'sendto', path: none }));
		withSocket('vsock:2:1', () => assert.throws(() => native.sdNotify('READY=1'), { code: 'EAFNOSUPPORT' }));
		withSocket(`/${'x'.repeat(200)}`, () => assert.throws(() => native.sdNotify('READY=1'), { code: 'ENAMETOOLONG' }));
		assert.throws(() => native.sdNotify(1 as never), TypeError);
	});

	test('the peer of a Unix socket is who it is', async () => {
		const path = join(dir, 'peer');
		const credentials = await new Promise<unknown>((resolve, reject) => {
			const server = createServer((socket) => {
				const { _handle: handle } = socket as unknown as { _handle: { fd: number } };
				resolve(native.peerCredentials(handle.fd));
				socket.destroy();
				server.close();
			});
			server.on('error', reject);
			server.listen(path, () => connect(path).on('error', reject));
		});
		assert.deepEqual(credentials, { pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() });
	});

	test('a descriptor that is no socket has no peer', () => {
		assert.throws(() => native.peerCredentials(2 ** 20), { code: 'EBADF', syscall: 'getsockopt(SO_PEERCRED)' });
		assert.throws(() => native.peerCredentials(-1), TypeError);
		const file = openSync('/dev/null', 'r');
		assert.throws(() => native.peerCredentials(file), { code: 'ENOTSOCK' });
		closeSync(file);
	});

	test('facts of libbpf and the machine', () => {
		assert.match(native.libbpfVersion(), /^v\d+\.\d+$/);
		assert.ok(native.possibleCpus() >= 1);
	});

	test('a missing addon is named with the command that builds it', () => {
		const load = (path: string) => {
			const before = process.env.XDPILOT_NATIVE;
			process.env.XDPILOT_NATIVE = path;
			try {
				return loadNative();
			} finally {
				if (before === undefined) delete process.env.XDPILOT_NATIVE;
				else process.env.XDPILOT_NATIVE = before;
			}
		};
		const none = join(dir, 'none.node');
		assert.throws(
			() => load(none),
			(e) => e instanceof XdpilotError && e.code === 'E_NATIVE' && e.message.includes(none) && e.hint !== undefined,
		);
		const broken = join(dir, 'broken.node');
		writeFileSync(broken, 'no shared object');
		assert.throws(
			() => load(broken),
			(e) => e instanceof XdpilotError && e.code === 'E_NATIVE' && /does not load/.test(e.message),
		);
	});
});
