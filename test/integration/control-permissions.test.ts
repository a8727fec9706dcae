// SPDX-License-Identifier: Apache-2.0
// The control socket with the kernel's own answers: file permissions, and SO_PEERCRED through the addon.
import assert from 'node:assert/strict';
import { chmodSync, chownSync, existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { silentLogger } from '../../src/log.ts';
import { loadNative, nativePath } from '../../src/native/binding.ts';
import { startControlServer } from '../../src/observe/control-server.ts';
import { userDatabase } from '../../src/observe/groups.ts';
import { buildStatus } from '../../src/observe/status.ts';
import { explainFlow } from '../../src/observe/why.ts';
import { xdpilot } from '../support/cli-process.ts';
import { NOON, poolStatus, statusInputs } from '../support/status-inputs.ts';

const NOBODY = 65_534;
/** Any group that is not root's: `daemon` is gid 1 wherever there is a /etc/group. */
const GROUP = { name: 'daemon', gid: 1 };

async function whyNot(): Promise<string | false> {
	if (process.getuid?.() !== 0) return 'becoming another user needs root';
	if (!existsSync(nativePath())) return 'the native addon is not built: npm run build:native';
	if (userDatabase().group(GROUP.name)?.gid !== GROUP.gid) return `there is no group ${GROUP.name} with gid ${GROUP.gid}`;
	const { status, stderr } = await xdpilot(['--version'], { uid: NOBODY, gid: NOBODY });
	return status === 0 ? false : `the program does not run as another user: ${stderr}`;
}

const options = { skip: await whyNot(), timeout: 60_000 };

async function serve(t: TestContext, group: string | undefined): Promise<string> {
	const folder = mkdtempSync(path.join(tmpdir(), 'xdpilot-perm-'));
	t.after(() => rmSync(folder, { recursive: true, force: true }));
	chmodSync(folder, 0o755);
	const socket = path.join(folder, 'run', 'control.sock');
	const native = loadNative();
	const server = await startControlServer({
		socket,
		group,
		users: userDatabase(),
		logger: silentLogger(),
		peerCredentials: (fd) => native.peerCredentials(fd),
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
					pool: poolStatus(),
					now: NOON,
				}),
			reload: () => Promise.resolve({ schema: 'xdpilot.reload/v1', changes: [], at_next_start: [] }),
		},
	});
	t.after(() => server.close());
	return socket;
}

test('only root may use the socket when no group is named', options, async (t) => {
	const socket = await serve(t, undefined);
	const { uid, gid, mode } = statSync(socket);
	assert.deepEqual([uid, gid, mode & 0o777], [0, 0, 0o660]);
	assert.equal((await xdpilot(['reload', '--socket', socket])).status, 0);
	for (const verb of [['status'], ['reload']]) {
		const { status, stderr } = await xdpilot([...verb, '--socket', socket], { uid: NOBODY, gid: NOBODY });
		assert.equal(status, 77, stderr);
		assert.match(stderr, /^error\[E_PERMISSION\]: no permission to use /);
	}
});

test('members of control.group may use it and reload, others may not', options, async (t) => {
	const socket = await serve(t, GROUP.name);
	assert.deepEqual(
		[statSync(socket).gid, statSync(path.dirname(socket)).mode & 0o777, statSync(path.dirname(socket)).gid],
		[GROUP.gid, 0o750, GROUP.gid],
	);
	const member = { uid: NOBODY, gid: GROUP.gid };
	assert.equal((await xdpilot(['status', '--socket', socket], member)).status, 0);
	assert.equal((await xdpilot(['reload', '--socket', socket], member)).status, 0);
	assert.equal((await xdpilot(['status', '--socket', socket], { uid: NOBODY, gid: NOBODY })).status, 77);
});

test('who can connect is not thereby allowed to change things', options, async (t) => {
	const socket = await serve(t, undefined);
	// As if an administrator had opened the socket for monitoring.
	chmodSync(path.dirname(socket), 0o755);
	chownSync(socket, 0, NOBODY);
	const reader = { uid: NOBODY, gid: NOBODY };
	assert.equal((await xdpilot(['status', '--socket', socket], reader)).status, 0);
	const { status, stderr } = await xdpilot(['reload', '--socket', socket], reader);
	assert.equal(status, 77);
	assert.match(stderr, /^error\[E_PERMISSION\]: uid 65534 may not do this\nnothing was changed\ntry: {2}run it as root\n$/);
});
