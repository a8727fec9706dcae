// SPDX-License-Identifier: Apache-2.0
// The real daemon on a real interface: follows its source, survives being killed, leaves forwarding what it set up.
// What packets get is asked of the pinned program itself, not of the daemon.
import assert from 'node:assert/strict';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import type { Flow } from '../../src/datapath/datapath.ts';
import { passProgramPinner } from '../../src/demo/pass-program.ts';
import { address } from '../../src/model/address.ts';
import { loadNative } from '../../src/native/binding.ts';
import { DaemonBox, GATEWAY_MAC } from '../support/daemon-process.ts';
import { whyNoBpf } from '../support/privileged.ts';
import { until } from '../support/server-process.ts';

const skip = whyNoBpf() ?? false;

const POOLS = `
sources: { static: { kind: file, path: services.yaml } }
pools: { web: { from: { source: static, service: web }, debounce: { quiet: 0ms, max: 0ms }, drain: 1s } }
vips: [ { address: 203.0.113.10, port: 80, protocol: tcp, pool: web } ]
`;

const flow = (n: number, over: Partial<Flow> = {}): Flow => ({
	source: address(`192.0.2.${1 + (n % 200)}`),
	sourcePort: 20_000 + n,
	dest: address('203.0.113.10'),
	destPort: 80,
	protocol: 'tcp',
	...over,
});

function check(title: string, body: (box: DaemonBox) => Promise<void>): void {
	test(title, { skip, timeout: 120_000 }, async () => {
		const box = await DaemonBox.create(`t${Math.trunc(Math.random() * 1e6)}`);
		try {
			box.configure(POOLS, `, gateway_mac: "${GATEWAY_MAC}"`);
			box.serve({ web: ['10.88.1.1', '10.88.1.2'] });
			await body(box);
		} finally {
			await box.remove();
		}
	});
}

/** Where flows 0..n-1 go, in order. */
const destinations = (box: DaemonBox, n: number) => Array.from({ length: n }, (_, i) => box.forward(flow(i)).to);

check('a changed file changes the ring, and packets follow', async (box) => {
	const daemon = box.start();
	const first = await box.untilActive('web', '10.88.1.1', '10.88.1.2');
	await daemon.untilLogged(/ready: /);
	assert.equal(first.mode, 'native');
	assert.equal(first.adopted, false);
	assert.deepEqual(new Set(destinations(box, 40)), new Set(['10.88.1.1', '10.88.1.2']));
	assert.equal(box.forward(flow(1)).mac, GATEWAY_MAC);

	box.serve({ web: ['10.88.1.3'] });
	const second = await box.untilActive('web', '10.88.1.3');
	assert.notEqual(second.pools[0]?.ring?.digest, first.pools[0]?.ring?.digest);
	assert.equal(box.forward(flow(1000)).to, '10.88.1.3');
	await box.until('the removed ones are gone after their drain', (s) => s.pools[0]?.backends.length === 1);
	assert.deepEqual(new Set(destinations(box, 40)), new Set(['10.88.1.3']));
});

check('killed and started again it adopts: no ring written, no flow moved', async (box) => {
	const first = box.start();
	const before = await box.untilActive('web', '10.88.1.1', '10.88.1.2');
	await first.untilLogged(/ready: /);
	const placed = destinations(box, 60);
	const program = await box.attachedProgram();
	await first.kill();
	assert.equal(await box.attachedProgram(), program);
	assert.deepEqual(destinations(box, 60), placed);
	assert.ok(['10.88.1.1', '10.88.1.2'].includes(box.forward(flow(5000)).to), 'new flows are served without the daemon');

	const second = box.start();
	await second.untilLogged(/ready: /);
	const after = await box.untilActive('web', '10.88.1.1', '10.88.1.2');
	await box.until('the source has answered', (s) => s.pools[0]?.answered === true);
	assert.equal(after.adopted, true);
	const status = await box.status();
	assert.equal(status.ring_swaps, 0);
	assert.deepEqual(status.pools[0]?.ring, before.pools[0]?.ring);
	assert.equal(status.state, 'ok');
	assert.equal(await box.attachedProgram(), program);
	assert.deepEqual(destinations(box, 60), placed);
});

check('a registry that is gone at the restart takes nothing away, one that lost most of a pool is held', async (box) => {
	const first = box.start();
	await box.untilActive('web', '10.88.1.1', '10.88.1.2');
	await first.kill();
	const services = readFileSync(box.servicesFile, 'utf8');
	writeFileSync(box.servicesFile, '{{{');
	const second = box.start();
	await second.untilLogged(/ready: /);
	const unread = await box.status();
	assert.equal(unread.pools[0]?.answered, false);
	assert.equal(unread.pools[0]?.backends.length, 2);

	writeFileSync(box.servicesFile, 'services: { web: [] }\n');
	const held = await box.until('it is held', (s) => s.pools[0]?.state === 'held');
	assert.equal(held.state, 'holding');
	assert.equal(held.pools[0]?.backends.filter((b) => b.state === 'active').length, 2);
	assert.ok(['10.88.1.1', '10.88.1.2'].includes(box.forward(flow(7)).to));

	writeFileSync(box.servicesFile, services);
	const healed = await box.until('the hold is over', (s) => s.pools[0]?.state === 'ok');
	assert.equal(healed.ring_swaps, 0);
});

check('SIGTERM ends it with status 0, leaves everything forwarding and says how to stop that', async (box) => {
	const daemon = box.start();
	await box.untilActive('web', '10.88.1.1', '10.88.1.2');
	await daemon.untilLogged(/ready: /);
	const placed = destinations(box, 20);
	daemon.signal('SIGTERM');
	assert.equal(await daemon.end(), 0);
	assert.ok(
		daemon.lines.some((l) => /goes on forwarding/.test(l) && /xdpilot detach/.test(l)),
		daemon.lines.join('\n'),
	);
	assert.ok(await box.attachedProgram());
	assert.deepEqual(destinations(box, 20), placed);
	assert.equal(existsSync(box.socket), false);
});

check('--detach-on-exit takes the data plane down', async (box) => {
	const daemon = box.start('--detach-on-exit');
	await box.untilActive('web', '10.88.1.1', '10.88.1.2');
	daemon.signal('SIGINT');
	assert.equal(await daemon.end(), 0);
	assert.equal(await box.attachedProgram(), undefined);
	assert.equal(existsSync(box.pinPath), false);
});

check('SIGHUP reloads, and a configuration with a mistake changes nothing', async (box) => {
	const daemon = box.start();
	await box.untilActive('web', '10.88.1.1', '10.88.1.2');
	await daemon.untilLogged(/ready: /);
	const gateway = `, gateway_mac: "${GATEWAY_MAC}"`;
	box.serve({ web: ['10.88.1.1', '10.88.1.2'], api: ['10.88.1.9'] });
	box.configure(
		POOLS.replace('pools: {', 'pools: { api: { from: { source: static, service: api } },').replace(
			'vips: [',
			'vips: [ { address: 203.0.113.11, port: 81, protocol: udp, pool: api },',
		),
		gateway,
	);
	daemon.signal('SIGHUP');
	await box.untilActive('api', '10.88.1.9');
	await box.until('the new vip is served', (s) => s.vips.length === 2);
	assert.equal(box.forward(flow(1, { dest: address('203.0.113.11'), destPort: 81, protocol: 'udp' })).to, '10.88.1.9');
	assert.equal((await box.status()).pools.find((p) => p.name === 'web')?.ring?.generation, 1);

	writeFileSync(box.configFile, 'nonsense: 1\n');
	daemon.signal('SIGHUP');
	await daemon.untilLogged(/configuration was refused, the old one stays/);
	assert.equal((await box.status()).vips.length, 2);

	box.configure(POOLS, gateway);
	assert.deepEqual((await box.reload()).changes, ['pool api removed', 'vip 203.0.113.11:81/udp removed']);
	await box.until('pool and vip are gone', (s) => s.vips.length === 1 && s.pools.length === 1);
	assert.equal(box.forward(flow(1, { dest: address('203.0.113.11'), destPort: 81, protocol: 'udp' })).to, 'pass');
});

check('a second daemon on the same interface is refused and disturbs nothing', async (box) => {
	const first = box.start();
	await box.untilActive('web', '10.88.1.1', '10.88.1.2');
	await first.untilLogged(/ready: /);
	const sameSocket = box.start();
	assert.equal(await sameSocket.end(), 1);
	assert.match(sameSocket.lines.join('\n'), /another daemon answers/);
	writeFileSync(box.configFile, readFileSync(box.configFile, 'utf8').replace('control.sock', 'other.sock'));
	const otherSocket = box.start();
	assert.equal(await otherSocket.end(), 1);
	assert.match(otherSocket.lines.join('\n'), /another xdpilot runs/);
	assert.equal((await box.status()).state, 'ok');
});

check('the gateway is found by itself and followed when it moves', async (box) => {
	box.configure(POOLS);
	const daemon = box.start();
	await box.untilActive('web', '10.88.1.1', '10.88.1.2');
	assert.equal(box.forward(flow(1)).mac, GATEWAY_MAC);
	await box.ip('neigh', 'replace', '10.88.0.1', 'lladdr', '02:00:00:00:07:99', 'dev', 'eth0', 'nud', 'reachable');
	await until('frames go to the new gateway', () => box.forward(flow(1)).mac === '02:00:00:00:07:99');
	await daemon.untilLogged(/gateway changed/);
});

check('an interface that is not there, and one that another program holds, are refused and left alone', async (box) => {
	const text = readFileSync(box.configFile, 'utf8');
	writeFileSync(box.configFile, text.replace('interface: eth0', 'interface: eth7'));
	const absent = box.start();
	assert.equal(await absent.end(), 1);
	assert.match(absent.lines.join('\n'), /E_HOST.*there is no interface eth7/);
	assert.equal(existsSync(box.pinPath), false);

	writeFileSync(box.configFile, text);
	const pin = `${box.pinPath}-pass`;
	passProgramPinner(loadNative())(pin);
	await box.ip('link', 'set', 'dev', 'eth0', 'xdpgeneric', 'pinned', pin).finally(() => rmSync(pin));
	const program = await box.attachedProgram();
	const refused = box.start();
	assert.equal(await refused.end(), 1);
	assert.match(refused.lines.join('\n'), new RegExp(`E_ATTACH.*eth0 has an XDP program already: program ${program}`));
	assert.equal(await box.attachedProgram(), program);
});
