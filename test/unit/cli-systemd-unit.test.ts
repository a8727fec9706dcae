// SPDX-License-Identifier: Apache-2.0
// The unit calls commands that exist, holds no directive that is known to break BPF or Node, and systemd accepts it.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createProgram } from '../../src/cli/program.ts';

const UNIT = fileURLToPath(new URL('../../systemd/xdpilot.service', import.meta.url));
const QUIET = { stdout: { write: () => undefined }, stderr: { write: () => undefined }, exitWith: () => undefined };

/** All values of a directive, in order. */
function values(name: string): string[] {
	return readFileSync(UNIT, 'utf8')
		.split('\n')
		.filter((line) => line.startsWith(`${name}=`))
		.map((line) => line.slice(name.length + 1));
}

test('start and reload call verbs of the program with options that they have', async () => {
	for (const line of [...values('ExecStart'), ...values('ExecReload')]) {
		const [verb = '', ...args] = (/main\.js (.*)$/.exec(line)?.[1] ?? '').split(' ');
		const command = (await createProgram(QUIET, verb)).commands.find((c) => c.name() === verb);
		assert.ok(command, `no command ${verb} in ${line}`);
		for (const flag of args.filter((arg) => arg.startsWith('-')))
			assert.ok(
				command.options.some((o) => o.short === flag || o.long === flag),
				`${verb} has no ${flag}`,
			);
	}
});

test('the system calls of BPF and of the control socket are allowed after @privileged was taken away', () => {
	const filters = values('SystemCallFilter');
	const denied = filters.findIndex((f) => f.startsWith('~') && f.includes('@privileged'));
	const allowed = filters.findIndex((f) => f.split(' ').includes('bpf') && f.includes('@chown'));
	assert.ok(denied >= 0 && allowed > denied, filters.join(' | '));
});

test('nothing is asked for that stops BPF, the interface or the JIT', () => {
	for (const name of ['MemoryDenyWriteExecute', 'PrivateUsers', 'PrivateNetwork', 'ProcSubset']) assert.deepEqual(values(name), [], name);
	assert.deepEqual(values('Type'), ['notify']);
	for (const family of ['AF_UNIX', 'AF_NETLINK', 'AF_INET', 'AF_INET6'])
		assert.ok(values('RestrictAddressFamilies')[0]?.includes(family), family);
	assert.deepEqual(values('ReadWritePaths'), ['-/sys/fs/bpf/xdpilot']);
	assert.ok(Number(values('WatchdogSec')[0]) >= 20, 'the daemon may be busy loading a program for seconds');
});

test('members of the control group can reach the socket, whose own mode keeps the others out', () => {
	assert.deepEqual(values('RuntimeDirectory'), ['xdpilot']);
	assert.deepEqual(values('RuntimeDirectoryMode'), ['0755'], 'the folder belongs to root:root, and systemd makes it');
});

// Where there is no systemd there is nothing that could read the unit.
if (spawnSync('systemd-analyze', ['--version']).status === 0) {
	test('systemd-analyze verify accepts the unit', () => {
		const { status, stdout, stderr } = spawnSync('systemd-analyze', ['verify', UNIT], { encoding: 'utf8' });
		assert.deepEqual([status, stdout, stderr], [0, '', '']);
	});
}
