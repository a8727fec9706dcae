// SPDX-License-Identifier: Apache-2.0
// `xdpilot backend` on a real host's settings, in a namespace: what it sets, that it undoes exactly that, and that it
// follows what changes around it.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { xdpilotArgv } from '../../src/demo/daemon-process.ts';
import { NetnsProcess } from '../../src/demo/netns-process.ts';
import { systemEnv } from '../../src/env.ts';
import { xdpilot } from '../support/cli-process.ts';
import { type Cable, hostSettings, makeCable, readIfThere } from '../support/netns.ts';
import { whyNoBpf } from '../support/privileged.ts';
import { until } from '../support/server-process.ts';
import { whyNoNamespace } from '../support/veth.ts';

const VIPS = '203.0.113.10,2001:db8:113::10';

interface Box {
	readonly cable: Cable;
	readonly common: readonly string[];
	/** Runs `xdpilot backend` to its end. */
	backend(...args: string[]): Promise<{ status: number | null; stdout: string; stderr: string }>;
	readonly folder: string;
}

function check(name: string, label: string, fn: (box: Box, t: TestContext) => Promise<void>): void {
	const why = whyNoBpf() ?? whyNoNamespace();
	test(name, { skip: why ?? false, timeout: 120_000 }, async (t) => {
		const cable = makeCable(t, `be-${label}`);
		const folder = mkdtempSync(join(tmpdir(), 'xdpilot-backend-'));
		t.after(() => rmSync(folder, { recursive: true, force: true }));
		const common = ['backend', '-i', 'eth0', '--state', join(folder, 'state.json'), '--pin-path', cable.pinPath];
		const backend = (...args: string[]) => xdpilot([...common, ...args], { netns: cable.host });
		await fn({ cable, common, backend, folder }, t);
	});
}

function withRoutes(cable: Cable): void {
	cable.ip(cable.host, 'route add default via 10.66.0.1 proto dhcp src 10.66.0.2 metric 100');
	cable.ip(cable.host, '-6 route add default via fd66::1 dev eth0 proto ra metric 1024 expires 600 pref high');
}

check(
	'sets what a backend needs, finds nothing to do the second time, and undoes exactly what it did',
	'undo',
	async ({ cable, backend }) => {
		withRoutes(cable);
		cable.ip(cable.host, 'address add 203.0.113.99/32 dev lo');
		const before = hostSettings(cable);

		const first = await backend('--vip', VIPS, '--once');
		assert.equal(first.status, 0, first.stderr);
		assert.match(first.stdout, /ready for 203\.0\.113\.10, 2001:db8:113::10 \(XDP native, MSS IPv4 1420, IPv6 1400\)/);
		const after = hostSettings(cable);
		assert.match(after, /default via 10\.66\.0\.1 dev eth0 proto dhcp src 10\.66\.0\.2 metric 100 advmss 1420/);
		assert.match(after, /default via fd66::1 dev eth0 metric 1023 advmss 1400/);
		assert.match(after, /inet 203\.0\.113\.10\/32/);
		assert.match(after, /inet6 2001:db8:113::10\/128 .*deprecated/);
		assert.match(after, /all\/arp_ignore 1\nall\/arp_announce 2\n/);
		assert.match(after, /\nxdp\n/);

		const second = await backend('--vip', VIPS, '--once', '--json');
		assert.deepEqual(JSON.parse(second.stdout).changes, []);
		assert.equal(hostSettings(cable), after);

		const undone = await backend('--detach');
		assert.equal(undone.status, 0, undone.stderr);
		await until('the program is off', () => !/\nxdp\n/.test(hostSettings(cable)));
		assert.equal(hostSettings(cable), before);
		assert.match((await backend('--detach')).stderr, /nothing to undo/);
	},
);

check('takes other vips without letting go of those that stay', 'vips', async ({ cable, backend }) => {
	withRoutes(cable);
	await backend('--vip', '203.0.113.10,203.0.113.11', '--once');
	const report = JSON.parse((await backend('--vip', '203.0.113.11,203.0.113.12', '--once', '--json')).stdout);
	assert.deepEqual(report.changes, ['lo: 203.0.113.10 removed', 'lo: 203.0.113.12 added']);
	const addresses = cable.ip(cable.host, 'address show dev lo');
	assert.doesNotMatch(addresses, /203\.0\.113\.10\//);
	assert.match(addresses, /203\.0\.113\.11\/32[\s\S]*203\.0\.113\.12\/32/);
});

check('leaves alone what someone else has changed since', 'foreign', async ({ cable, backend }) => {
	withRoutes(cable);
	await backend('--vip', VIPS, '--once');
	cable.ip(cable.host, 'route replace default via 10.66.0.1 proto dhcp src 10.66.0.2 metric 100 advmss 900');
	const undone = await backend('--detach');
	assert.match(undone.stdout, /metric 100: left, it has gone or someone else changed it/);
	assert.match(cable.ip(cable.host, '-4 route show default'), /advmss 900/);
});

check('refuses a vip that another interface would claim, and changes nothing', 'claim', async ({ cable, backend }) => {
	cable.ip(cable.host, 'address add 203.0.113.10/24 dev eth0');
	const before = hostSettings(cable);
	const refused = await backend('--vip', VIPS, '--once');
	assert.equal(refused.status, 1);
	assert.match(refused.stderr, /error\[E_HOST\]: 203\.0\.113\.10 is an address of eth0/);
	assert.match(refused.stderr, /try: {2}ip address delete 203\.0\.113\.10\/24 dev eth0/);
	assert.equal(hostSettings(cable), before);
});

check('follows routes, addresses and the interface itself, and leaves all in place when it is stopped', 'follow', async (box, t) => {
	const { cable } = box;
	withRoutes(cable);
	const logFile = join(box.folder, 'log');
	const argv = xdpilotArgv(...box.common, '--vip', VIPS, '--mtu', '1450');
	const agent = new NetnsProcess(argv, cable.host, { name: 'agent', logFile });
	t.after(() => agent.stop(systemEnv, 2000));
	const routes = () => cable.ip(cable.host, '-4 route show default');
	await until('it is ready', () => /: ready for/.test(readIfThere(logFile)));
	assert.match(routes(), /advmss 1370/);

	cable.ip(cable.host, 'route replace default via 10.66.0.9 metric 100');
	cable.ip(cable.host, 'address delete 203.0.113.10/32 dev lo');
	await until('the new route and the vip are mended', () => /via 10\.66\.0\.9 .*advmss 1370/.test(routes()));
	await until('the vip is back', () => /203\.0\.113\.10\/32/.test(cable.ip(cable.host, 'address show dev lo')));

	cable.ip(cable.host, '-6 route delete default via fd66::1 dev eth0 proto ra metric 1024');
	await until('the copy of a route that is no longer advertised is gone', () => cable.ip(cable.host, '-6 route show default') === '');

	cable.ip(cable.host, 'link delete eth0');
	cable.plugIn();
	cable.ip(cable.host, 'route add default via 10.66.0.1');
	await until('the new interface is set up', () => /\nxdp\n/.test(hostSettings(cable)) && /via 10\.66\.0\.1 .*advmss 1370/.test(routes()));

	const ending = await agent.stop(systemEnv, 5000);
	assert.deepEqual(ending, { code: 0, signal: null });
	assert.match(readIfThere(logFile), /stopped; eth0 goes on serving/);
	assert.match(hostSettings(cable), /\nxdp\n/);
	assert.equal((await box.backend('--detach')).status, 0);
});

check('says what is wrong with its arguments', 'usage', async ({ backend }) => {
	const cases: [string[], number, RegExp][] = [
		[['--once'], 64, /--vip names no address/],
		[['--vip', 'example.com', '--once'], 64, /no IP address/],
		[['--vip', VIPS, '--mtu', '600', '--once'], 1, /MTU of 600 leaves an MSS of/],
	];
	for (const [args, status, message] of cases) {
		const result = await backend(...args);
		assert.equal(result.status, status, result.stderr);
		assert.match(result.stderr, message);
	}
	const absent = await xdpilot(['backend', '-i', 'nope0', '--vip', VIPS, '--once', '--state', '/nonexistent/x']);
	assert.match(absent.stderr, /there is no interface nope0/);
});
