// SPDX-License-Identifier: Apache-2.0
// The commands that need no kernel: check, and status, why and reload against a daemon that is faked behind its socket.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { ConfigError } from '../../src/config/config-error.ts';
import { silentLogger } from '../../src/log.ts';
import { address } from '../../src/model/address.ts';
import { startControlServer } from '../../src/observe/control-server.ts';
import { buildStatus, type StatusInputs } from '../../src/observe/status.ts';
import { explainFlow } from '../../src/observe/why.ts';
import { parseServices } from '../../src/sources/file/services.ts';
import { cli } from '../support/run-cli.ts';
import { NOON, poolStatus, reconcileStatus, statusInputs } from '../support/status-inputs.ts';

const EXAMPLES = path.resolve(import.meta.dirname, '../../config/examples');

function folder(t: TestContext): string {
	const dir = mkdtempSync(path.join(tmpdir(), 'xdpilot-cli-'));
	t.after(() => rmSync(dir, { recursive: true, force: true }));
	return dir;
}

async function fakeDaemon(
	t: TestContext,
	inputs: StatusInputs = statusInputs(),
	reload: () => Promise<never> = neverReload,
): Promise<string> {
	const socket = path.join(folder(t), 's');
	const server = await startControlServer({
		socket,
		group: undefined,
		users: { group: () => undefined, userName: () => undefined },
		logger: silentLogger(),
		peerCredentials: () => ({ pid: process.pid, uid: 0, gid: 0 }),
		handlers: {
			status: () => buildStatus(inputs),
			why: (flow) =>
				explainFlow({
					waiting: [],
					flow,
					verdict: {
						vip: '203.0.113.10:443/tcp',
						pool: 'web',
						via: 'ring',
						backend: { address: address('10.0.0.1'), state: 'active' },
						entry: null,
						slot: 99,
						ringBackend: address('10.0.0.1'),
						generation: 7,
						drop: null,
					},
					pool: poolStatus(),
					now: NOON,
				}),
			reload,
		},
	});
	t.after(() => server.close());
	return socket;
}

function neverReload(): Promise<never> {
	return Promise.reject(new Error('not asked for'));
}

for (const name of ['consul', 'etcd', 'file']) {
	test(`check accepts the example for ${name}`, async () => {
		const { status, stdout, stderr } = await cli('check', '-c', path.join(EXAMPLES, `${name}.yaml`));
		assert.equal(stderr, '');
		assert.equal(status, 0);
		assert.match(stdout, /^ok {2}.*: 1 source, \d pools?, \d vips?; eth0\n$/);
	});
}

test('the servers of the file example can be read', () => {
	const services = parseServices(readFileSync(path.join(EXAMPLES, 'services.yaml'), 'utf8'));
	assert.deepEqual([...services.keys()], ['web']);
	assert.doesNotMatch(JSON.stringify([...services.values()]), /error|reason":"(?!declared)/);
});

test('check prints every mistake with its place, and exits with 78', async (t) => {
	const file = path.join(folder(t), 'lb.yaml');
	writeFileSync(file, 'sources: { s: { kind: file, path: x } }\nvips:\n  - { address: 1.2.3, port: 0, protocol: tcp, pool: p }\n');
	const { status, stdout, stderr } = await cli('check', '-c', file);
	assert.equal(status, 78);
	assert.equal(stdout, '');
	assert.match(
		stderr,
		/^error\[E_CONFIG\]: .*lb\.yaml has 2 mistakes\n {2}.*lb\.yaml:3:16: vips\[0\]\.address got "1\.2\.3"; .*\n {2}.*:3:53: vips\[0\]\.pool /,
	);
});

test('check --json gives the same as data', async (t) => {
	const file = path.join(folder(t), 'lb.yaml');
	writeFileSync(file, 'sources: {}\nvipz: []\n');
	const bad = await cli('check', '--json', '-c', file);
	assert.equal(bad.status, 78);
	assert.equal(bad.stderr, '');
	const report = bad.json() as { ok: boolean; issues: { line: number; column: number; key: string }[] };
	assert.equal(report.ok, false);
	assert.deepEqual(report.issues, [
		{ file, line: 2, column: 1, key: 'vipz', problem: 'is not a key of the configuration', expected: 'did you mean vips?' },
	]);
	const good = await cli('check', '--json', '-c', path.join(EXAMPLES, 'etcd.yaml'));
	assert.equal(good.status, 0);
	assert.deepEqual(good.json(), {
		schema: 'xdpilot.check/v1',
		ok: true,
		file: path.join(EXAMPLES, 'etcd.yaml'),
		interfaces: ['eth0'],
		sources: 1,
		pools: 2,
		vips: 3,
		warnings: [],
		issues: [],
	});
});

test('check warns of what this version does not do', async (t) => {
	const file = path.join(folder(t), 'lb.yaml');
	writeFileSync(
		file,
		'sources: { s: { kind: file, path: x } }\npools: { p: { from: { source: s, service: a } } }\ndatapath: { hash_seed_file: y }\n',
	);
	writeFileSync(path.join(path.dirname(file), 'x'), 'services: { a: [] }\n');
	const { status, stdout } = await cli('check', '-c', file);
	assert.equal(status, 0);
	assert.match(
		stdout,
		/no interface \(run needs datapath\.interface\)\nwarning {2}datapath\.hash_seed_file: flows are hashed with Katran's seeds only in this version/,
	);
});

test('check looks into the services file, and warns', async (t) => {
	const dir = folder(t);
	const file = path.join(dir, 'lb.yaml');
	writeFileSync(
		file,
		`sources: { s: { kind: file, path: services.yaml }, gone: { kind: file, path: gone.yaml } }
pools: { a: { from: { source: s, service: a } }, b: { from: { source: s, service: b } }, c: { from: { source: gone, service: c } } }
`,
	);
	writeFileSync(path.join(dir, 'services.yaml'), 'services:\n  a:\n    - { address: 10.0.0.1 }\n    - { address: 10.0.0 }\n');
	const { status, json } = await cli('check', '--json', '-c', file);
	assert.equal(status, 0);
	const { warnings } = json() as { warnings: { key: string; why: string }[] };
	assert.deepEqual(
		warnings.map(({ key }) => key),
		['pools.a.from.service', 'pools.b.from.service', 'sources.gone.path'],
	);
	assert.match(warnings[0]?.why ?? '', /is refused: line 4: "10\.0\.0" is not an IP address$/);
	assert.match(warnings[1]?.why ?? '', /services\.yaml has no service b$/);
});

test('status shows verdict, problems and one table a noun', async (t) => {
	const hold = { reason: '3 of 8 vanished without proof', since: NOON, removed: 3, of: 8, until: NOON + 600_000 };
	const inputs = statusInputs({ reconcile: reconcileStatus({ pools: [poolStatus({ state: 'held', hold })] }) });
	const { status, stdout } = await cli('status', '--socket', await fakeDaemon(t, inputs));
	assert.equal(status, 0);
	const lines = stdout.split('\n');
	assert.equal(lines[0], 'holding  eth0 (native); xdpilot 0.1.0, pid 4711, since 2026-11-23T11:00:00.000Z');
	assert.equal(lines[1], '  ! pool web is held: 3 of 8 vanished without proof');
	assert.match(stdout, /^VIP {2,}POOL {2,}PACKETS/m);
	assert.match(stdout, /^203\.0\.113\.10:443\/tcp {2}web {2,}1000 {2}64000/m);
	assert.match(stdout, /^web {3}held {3}2\/2 {5}etcd\/web {2}45 {11}7 {2}abababababab {2}2026/m);
	assert.match(stdout, /^10\.0\.0\.1 {2}active {7}1 {2}32769 {6}600 {2}40000$/m);
	assert.match(stdout, /^etcd {4}etcd {2}up {5}0\.2s ago/m);
	assert.match(stdout, /^dropped: truncated 3$/m);
});

test('status --json is the report itself', async (t) => {
	const { json } = await cli('status', '--json', '--socket', await fakeDaemon(t));
	assert.deepEqual(json(), buildStatus(statusInputs()));
});

test('status without a daemon says what is pinned, with status 69', async (t) => {
	const dir = folder(t);
	const pins = path.join(dir, 'pins');
	for (const name of ['999999/link_native', '999998', 'other']) mkdirSync(path.join(pins, name), { recursive: true });
	const args = ['status', '--socket', path.join(dir, 'absent'), '--pin-path', pins] as const;
	const { status, stdout, stderr } = await cli(...args);
	assert.equal(status, 69);
	assert.match(stderr, /^error\[E_DAEMON_UNREACHABLE\]: no daemon is running: there is no socket /);
	assert.equal(
		stdout,
		`interface 999998 (not here) has maps pinned in ${pins}/999998, but no attached program\n` +
			`interface 999999 (not here) has a program pinned in ${pins}/999999; it is gone or in another network namespace, so whether it forwards can't be told from here\n`,
	);
	const asJson = await cli(...args, '--json');
	assert.equal(asJson.status, 69);
	const report = asJson.json() as { error: { code: string }; pinned: { ifindex: number; attached: boolean }[] };
	assert.equal(report.error.code, 'E_DAEMON_UNREACHABLE');
	assert.deepEqual(
		report.pinned.map(({ ifindex, attached }) => [ifindex, attached]),
		[
			[999_998, false],
			[999_999, true],
		],
	);
	assert.match(
		(await cli('status', '--socket', path.join(dir, 'absent'), '--pin-path', path.join(dir, 'none'))).stdout,
		/^nothing is pinned under /,
	);
});

test('why prints a sentence, then the facts', async (t) => {
	const socket = await fakeDaemon(t);
	const { status, stdout } = await cli('why', '192.0.2.7:40000', '203.0.113.10:443/tcp', '--socket', socket);
	assert.equal(status, 0);
	const [sentence, blank, ...facts] = stdout.trimEnd().split('\n');
	assert.match(
		sentence ?? '',
		/^192\.0\.2\.7:40000 goes to 10\.0\.0\.1 for 203\.0\.113\.10:443\/tcp, because a new flow takes ring slot 99 of 65537/,
	);
	assert.equal(blank, '');
	assert.ok(facts.includes('  ring slot    99 of 65537 -> 10.0.0.1'), facts.join('\n'));
	assert.ok(facts.includes('  registry     etcd/web at revision 45'));
	const { json } = await cli('why', '192.0.2.7:40000', '203.0.113.10:443/tcp', '--socket', socket, '--json');
	assert.equal((json() as { slot: number }).slot, 99);
});

test('why refuses what is no flow before it asks anyone', async () => {
	assert.equal((await cli('why', '192.0.2.7', 'x', '--socket', '/nowhere')).status, 64);
	assert.equal((await cli('why', '192.0.2.7:1', '203.0.113.1:1/tcp', '--socket', '/nowhere')).status, 69);
});

test("reload hands the daemon's refusal through, mistakes and all", async (t) => {
	const issue = { file: '/etc/x.yaml', line: 3, column: 1, key: 'vipz', problem: 'is not a key of the configuration', expected: null };
	const socket = await fakeDaemon(t, statusInputs(), () => Promise.reject(new ConfigError('/etc/x.yaml', [issue])));
	const { status, stderr } = await cli('reload', '--socket', socket);
	assert.equal(status, 78);
	assert.equal(
		stderr,
		'error[E_CONFIG]: /etc/x.yaml has a mistake\n  /etc/x.yaml:3:1: vipz is not a key of the configuration\nnothing was changed\n',
	);
});
