// SPDX-License-Identifier: Apache-2.0
// The commands around a real daemon on a real interface: plan before, with and after it, status, why, reload, detach.
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import type { StatusReport, WhyReport } from '../../src/observe/report.ts';
import { xdpilot } from '../support/cli-process.ts';
import { DaemonBox, GATEWAY_MAC } from '../support/daemon-process.ts';
import { whyNoBpf } from '../support/privileged.ts';

const CONFIG = `
sources: { static: { kind: file, path: services.yaml } }
pools: { web: { from: { source: static, service: web }, debounce: { quiet: 0ms, max: 0ms }, drain: 1s } }
vips: [ { address: 203.0.113.10, port: 80, protocol: tcp, pool: web }, { address: 203.0.113.10, port: 443, protocol: udp, pool: web, flags: [quic] } ]
`;

const options = { skip: whyNoBpf() ?? false, timeout: 180_000 };

test('plan, run, status, why, reload and detach tell one story', options, async (t) => {
	const box = await DaemonBox.create('cli');
	const run = (...args: string[]) => xdpilot(args, { netns: box.netns });
	try {
		box.configure(CONFIG, `, gateway_mac: "${GATEWAY_MAC}", server_ids: [ { address: 10.88.1.9, ids: [7] } ]`);
		box.serve({ web: ['10.88.1.1', '10.88.1.2'] });

		await t.test('plan says what a start would do', async () => {
			const { status, stdout } = await run('plan', '-c', box.configFile);
			assert.equal(status, 2);
			assert.match(stdout, /^\+ pool web: add backend 10\.88\.1\.1 \(active\)$/m);
			assert.match(stdout, /^\+ vip 203\.0\.113\.10:80\/tcp: serve it from pool web$/m);
			assert.match(stdout, /^7 changes pending \(nothing is pinned yet\); nothing was changed$/m);
			assert.equal(existsSync(box.pinPath), false);
		});

		const daemon = box.start();
		await box.untilActive('web', '10.88.1.1', '10.88.1.2');
		await daemon.untilLogged(/ready: /);

		await t.test('plan finds nothing to do beside the running daemon', async () => {
			const { status, stdout, stderr } = await run('plan', '-c', box.configFile);
			assert.deepEqual([status, stderr], [0, '']);
			assert.match(stdout, new RegExp(`^nothing to do \\(compared with ${box.pinPath}/\\d+\\); nothing was changed\\n$`));
		});

		await t.test('status and why agree with the program', async () => {
			const { status, stdout } = await run('status', '--json', '--socket', box.socket);
			assert.equal(status, 0);
			const report = JSON.parse(stdout) as StatusReport;
			assert.deepEqual([report.state, report.interface, report.mode], ['ok', 'eth0', 'native']);
			const answer = await run('why', '192.0.2.7:40000', '203.0.113.10:80/tcp', '--json', '--socket', box.socket);
			const why = JSON.parse(answer.stdout) as WhyReport;
			const { source, dest, protocol } = why.flow;
			const packet = box.forward({ source, sourcePort: 40_000, dest, destPort: 80, protocol });
			assert.equal(why.backend?.address, packet.to);
			const known = JSON.parse(
				(await run('why', '192.0.2.7:40000', '203.0.113.10:80/tcp', '--json', '--socket', box.socket)).stdout,
			) as WhyReport;
			assert.deepEqual([why.via, known.via], ['ring', 'flow-table']);
			assert.match(known.sentence, /because its flow is in the flow table, last seen /);
		});

		await t.test('detach leaves a running daemon alone', async () => {
			const { status, stderr } = await run('detach', '-c', box.configFile);
			assert.equal(status, 1);
			assert.match(stderr, /^error\[E_DATAPATH\]: another xdpilot runs on /);
			assert.notEqual(await box.attachedProgram(), undefined);
		});

		await t.test('reload applies a good configuration and refuses a bad one whole', async () => {
			const good = readFileSync(box.configFile, 'utf8');
			writeFileSync(box.configFile, good.replace('port: 80,', 'port: 81,'));
			const changed = await run('reload', '--socket', box.socket);
			assert.deepEqual([changed.status, changed.stdout], [0, 'vip 203.0.113.10:80/tcp removed\nvip 203.0.113.10:81/tcp added\n']);
			writeFileSync(box.configFile, good.replace('port: 80,', 'port: eighty,'));
			const refused = await run('reload', '--socket', box.socket);
			assert.equal(refused.status, 78);
			assert.match(refused.stderr, /vips\[0\]\.port got "eighty"; expected a whole number from 0 to 65535\nnothing was changed\n$/);
			writeFileSync(box.configFile, good.replace('port: 80,', 'port: 81,'));
			assert.equal((await run('plan', '-c', box.configFile)).status, 0, 'the good one is still in force');
		});

		daemon.signal('SIGTERM');
		assert.equal(await daemon.end(), 0);

		await t.test('without the daemon status says that forwarding goes on, and plan that a change waits', async () => {
			const { status, stdout, stderr } = await run('status', '--socket', box.socket, '--pin-path', box.pinPath);
			assert.equal(status, 69);
			assert.match(stderr, /^error\[E_DAEMON_UNREACHABLE\]: no daemon is running/);
			assert.match(stdout, /^eth0 goes on forwarding with what was last written /);
			box.serve({ web: ['10.88.1.1', '10.88.1.3'] });
			const plan = await run('plan', '--json', '-c', box.configFile);
			assert.equal(plan.status, 2);
			const { changes } = JSON.parse(plan.stdout) as { changes: { kind: string; backend?: string; joins?: string[]; leaves?: string[] }[] };
			assert.deepEqual(
				changes.map(({ kind, backend, joins, leaves }) => [kind, backend ?? joins, leaves]),
				[
					['backend-state', '10.88.1.2', undefined],
					['backend-add', '10.88.1.3', undefined],
					['ring-swap', ['10.88.1.3'], ['10.88.1.2']],
				],
			);
		});

		await t.test('detach takes everything down, twice is harmless, and plan begins anew', async () => {
			const first = await run('detach', '-c', box.configFile);
			assert.deepEqual([first.status, first.stdout], [0, 'eth0: stopped forwarding; to start again: xdpilot run -c FILE\n']);
			assert.equal(await box.attachedProgram(), undefined);
			assert.equal(existsSync(box.pinPath), false);
			const second = await run('detach', '-c', box.configFile);
			assert.equal(second.status, 0);
			assert.match(second.stderr, /^nothing is pinned under /);
			assert.equal((await run('plan', '-c', box.configFile)).status, 2);
		});
	} finally {
		await box.remove();
	}
});

test('plan names a source that can not be read, and plans the rest', options, async () => {
	const box = await DaemonBox.create('cliplan');
	try {
		box.configure(`
sources: { static: { kind: file, path: services.yaml }, gone: { kind: file, path: absent.yaml } }
pools: { web: { from: { source: static, service: web } }, api: { from: { source: gone, service: api } } }
`);
		box.serve({ web: ['10.88.1.1'] });
		const { status, stdout, stderr } = await xdpilot(['plan', '-c', box.configFile], { netns: box.netns });
		assert.equal(status, 1);
		assert.match(stdout, /^\+ pool web: add backend 10\.88\.1\.1 \(active\)$/m);
		assert.doesNotMatch(stdout, /pool api/);
		assert.match(stderr, /^error\[E_SOURCE\]: pool api: .*absent\.yaml/);
	} finally {
		await box.remove();
	}
});
