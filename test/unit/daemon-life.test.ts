// SPDX-License-Identifier: Apache-2.0
// The daemon's life on a fake data plane, host and registry: what it refuses, when it is ready, what a reload
// touches, and that stopping leaves everything forwarding.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig } from '../../src/config/load.ts';
import { Daemon } from '../../src/daemon/daemon.ts';
import type { DatapathInfo } from '../../src/datapath/datapath.ts';
import type { DatapathOptions } from '../../src/datapath/options.ts';
import { isXdpilotError, XdpilotError } from '../../src/errors.ts';
import { silentLogger } from '../../src/log.ts';
import { address } from '../../src/model/address.ts';
import type { ControlHandlers } from '../../src/observe/control-server.ts';
import { ServiceNotifier } from '../../src/observe/notify.ts';
import { FakeDatapath } from '../support/fake-datapath.ts';
import { FakeHost } from '../support/fake-host.ts';
import { MemorySource } from '../support/memory-source.ts';
import { VirtualEnv } from '../support/virtual-env.ts';

const CONFIG = `
datapath: { interface: fake0, ring_size: 101, max_backends_per_pool: 64 }
sources:
  one: { kind: file, path: one.yaml }
  two: { kind: file, path: two.yaml }
pools:
  web: { from: { source: one, service: web } }
  api: { from: { source: two, service: api } }
vips:
  - { address: 203.0.113.1, port: 80, protocol: tcp, pool: web }
  - { address: 203.0.113.2, port: 80, protocol: tcp, pool: api }
`;

class Rig {
	readonly env = new VirtualEnv();
	readonly host = new FakeHost();
	readonly sources = new Map<string, MemorySource>();
	/** Every source ever made, in order. */
	readonly made: MemorySource[] = [];
	readonly notes: string[] = [];
	readonly order: string[] = [];
	readonly options: DatapathOptions[] = [];
	config = CONFIG;
	fake: FakeDatapath;
	adopted = false;
	handlers: ControlHandlers | undefined;
	controlError: Error | undefined;
	readonly daemon: Daemon;

	constructor(fake?: FakeDatapath) {
		this.fake = fake ?? new FakeDatapath({ env: this.env, limits: { ringSize: 101 } });
		this.daemon = this.#daemon();
	}

	source(name: string): MemorySource {
		const source = this.sources.get(name);
		assert.ok(source, `no source ${name}`);
		return source;
	}

	/** Lets both sources answer with backends 1 and 2. */
	answer(): void {
		this.source('one').set('web', [1, 2]);
		this.source('two').set('api', [1, 2]);
	}

	/** What the service manager was told: READY, RELOADING, STATUS ... */
	told(what: string): number {
		return this.notes.filter((n) => n.startsWith(`${what}=`)).length;
	}

	#daemon(): Daemon {
		return new Daemon({
			env: this.env,
			logger: silentLogger(),
			host: this.host,
			notifier: new ServiceNotifier(
				(state) => this.notes.push(state) > 0,
				() => 1n,
			),
			loadConfig: () => parseConfig(this.config, '/etc/xdpilot/test.yaml'),
			createSource: (name) => {
				const source = new MemorySource(name, this.env);
				this.sources.set(name, source);
				this.made.push(source);
				return source;
			},
			openDatapath: async (options) => {
				this.options.push(options);
				this.order.push('datapath');
				const info: DatapathInfo = { interface: 'fake0', mode: 'native', adopted: this.adopted };
				return withInfo(this.fake, info, () => this.order.push('datapath closed'));
			},
			startControl: async (_, handlers) => {
				if (this.controlError !== undefined) throw this.controlError;
				this.handlers = handlers;
				this.order.push('control');
				return {
					close: async () => {
						this.order.push('control closed');
					},
				};
			},
			setLogLevel: (level) => this.order.push(`log ${level}`),
			watchdogMs: 1000,
			version: '0.0.0',
			pid: 1,
		});
	}
}

/** The fake with other facts, and a close that leaves it usable: the pinned state that outlives a daemon. */
function withInfo(fake: FakeDatapath, info: DatapathInfo, onClose: () => void): FakeDatapath {
	return new Proxy(fake, {
		get(target, property) {
			if (property === 'info') return info;
			if (property === 'close') return async () => onClose();
			const value: unknown = Reflect.get(target, property, target);
			return typeof value === 'function' ? value.bind(target) : value;
		},
	});
}

const withCode = (code: string, pattern: RegExp) => (e: unknown) => isXdpilotError(e) && e.code === code && pattern.test(e.message);

test('it starts, serves what the sources say, and is ready then', async () => {
	const rig = new Rig();
	await rig.daemon.start();
	await rig.env.advance(100);
	assert.equal(rig.told('READY'), 0);
	rig.answer();
	await rig.env.advance(100);
	assert.equal(rig.told('READY'), 1);
	const status = rig.daemon.status();
	assert.equal(status.state, 'ok');
	assert.deepEqual(
		status.pools.map((p) => `${p.name} ${p.state}`),
		['api ok', 'web ok'],
	);
	assert.equal(rig.fake.actual().vips.size, 2);
	assert.deepEqual([...(rig.options[0]?.gatewayMac ?? [])], [2, 0, 0, 0, 0, 1]);
	assert.deepEqual(rig.options[0]?.ownAddresses, ['10.9.0.1']);
	await rig.daemon.stop();
});

test('a registry that is dead at the start does not keep an adopted data plane from being ready', async () => {
	const rig = new Rig();
	rig.adopted = true;
	await rig.daemon.start();
	await rig.env.advance(0);
	assert.equal(rig.told('READY'), 1);
	await rig.daemon.stop();
});

test('a registry that is dead at the first start is waited for, but not for ever', async () => {
	const rig = new Rig();
	await rig.daemon.start();
	await rig.env.advance(9999);
	assert.equal(rig.told('READY'), 0);
	await rig.env.advance(1);
	assert.equal(rig.told('READY'), 1);
	await rig.daemon.stop();
});

test('stopping closes in order and touches nothing that packets use', async () => {
	const rig = new Rig();
	await rig.daemon.start();
	rig.answer();
	await rig.env.advance(100);
	const journal = [...rig.fake.journal];
	await rig.daemon.stop();
	assert.deepEqual(rig.order.slice(-2), ['datapath closed', 'control closed']);
	assert.deepEqual(rig.fake.journal, journal);
	assert.ok(rig.made.every((s) => s.isClosed));
	assert.equal(rig.host.listeners.size, 0);
	assert.equal(rig.env.pendingTimers, 0);
	await rig.daemon.stop();
});

test('a daemon that is stopped while it starts opens nothing more', async () => {
	const rig = new Rig();
	rig.host.gatewayMac = null;
	const started = rig.daemon.start();
	const failed = assert.rejects(started);
	await rig.env.advance(2500);
	await rig.daemon.stop();
	await failed;
	assert.ok(!rig.order.includes('datapath'));
	assert.equal(rig.order.at(-1), 'control closed');
	assert.equal(rig.env.pendingTimers, 0);
});

test('a gateway that appears late is waited for, one that never does is an error', async () => {
	const late = new Rig();
	late.host.gatewayMac = null;
	const started = late.daemon.start();
	await late.env.advance(3000);
	late.host.gatewayMac = Uint8Array.of(2, 0, 0, 0, 0, 9);
	await late.env.advance(1000);
	await started;
	assert.deepEqual([...(late.options[0]?.gatewayMac ?? [])], [2, 0, 0, 0, 0, 9]);
	await late.daemon.stop();

	const never = new Rig();
	never.host.gatewayMac = null;
	const failed = assert.rejects(never.daemon.start(), withCode('E_HOST', /no default route/));
	await never.env.advance(20_000);
	await failed;
	assert.ok(!never.order.includes('datapath'));
});

test('the gateway is followed when it changes', async () => {
	const rig = new Rig();
	await rig.daemon.start();
	await rig.host.moveGateway(Uint8Array.of(2, 0, 0, 0, 0, 5));
	assert.deepEqual([...rig.fake.gatewayMac], [2, 0, 0, 0, 0, 5]);
	await rig.daemon.stop();
});

test('what is configured and does not exist is refused by name, before anything is touched', async () => {
	const rig = new Rig();
	rig.config = CONFIG.replace('interface: fake0,', 'interface: fake0, hash_seed_file: seed,');
	const missing = rig.daemon.start();
	await assert.rejects(missing, withCode('E_NOT_BUILT', /datapath\.hash_seed_file/));
	assert.deepEqual(rig.order, []);
});

test('a configuration without an interface, a missing requirement and a taken socket each say so', async () => {
	const bare = new Rig();
	bare.config = CONFIG.replace('interface: fake0, ', '');
	await assert.rejects(bare.daemon.start(), withCode('E_CONFIG', /datapath\.interface/));

	const poor = new Rig();
	poor.host.requirements = [{ id: 'btf', ok: false, what: 'the kernel has no BTF', mend: 'boot another' }];
	await assert.rejects(poor.daemon.start(), withCode('E_PLATFORM', /no BTF/));

	const second = new Rig();
	second.controlError = new XdpilotError('E_CONTROL', 'another daemon answers');
	await assert.rejects(second.daemon.start(), withCode('E_CONTROL', /another daemon/));
	assert.ok(!second.order.includes('datapath'));
});

test('a server id whose backend may not be one is refused', async () => {
	const rig = new Rig();
	rig.config = CONFIG.replace('ring_size: 101', 'ring_size: 101, server_ids: [{ address: 10.9.0.1, ids: [1] }]');
	await assert.rejects(rig.daemon.start(), withCode('E_CONFIG', /own address/));
});

test('the control socket answers while it starts that it does', async () => {
	const rig = new Rig();
	rig.host.gatewayMac = null;
	const started = rig.daemon.start();
	await rig.env.advance(10);
	assert.throws(() => rig.handlers?.status(), withCode('E_DAEMON_UNREACHABLE', /still starting/));
	rig.host.gatewayMac = Uint8Array.of(2, 0, 0, 0, 0, 1);
	await rig.env.advance(1000);
	await started;
	assert.ok(rig.handlers?.status());
	await rig.daemon.stop();
});

test('a reload keeps what it does not change: sources, watches, rings', async () => {
	const rig = new Rig();
	await rig.daemon.start();
	rig.answer();
	await rig.env.advance(100);
	const journal = [...rig.fake.journal];
	assert.deepEqual(await rig.daemon.reload(), { schema: 'xdpilot.reload/v1', changes: [], at_next_start: [] });
	rig.config = CONFIG.replace(
		'api: { from: { source: two, service: api } }',
		'api: { from: { source: two, service: api }, hash: maglev-v1 }',
	);
	const report = await rig.daemon.reload();
	await rig.env.advance(100);
	assert.deepEqual(report.changes, ['pool api changed']);
	assert.equal(rig.made.length, 2);
	assert.deepEqual(rig.fake.journal.slice(journal.length), ['ring api gen 2 n 2']);
	assert.equal(rig.told('RELOADING'), 2);
	assert.equal(rig.told('READY'), 3);
	await rig.daemon.stop();
});

test('a reload adds and removes pools, vips and sources', async () => {
	const rig = new Rig();
	await rig.daemon.start();
	rig.answer();
	await rig.env.advance(100);
	const two = rig.source('two');
	rig.config = `
datapath: { interface: fake0, ring_size: 101, max_backends_per_pool: 64 }
sources: { one: { kind: file, path: one.yaml } }
pools:
  web: { from: { source: one, service: web } }
  new: { from: { source: one, service: new } }
vips:
  - { address: 203.0.113.1, port: 80, protocol: tcp, pool: web }
  - { address: 203.0.113.3, port: 80, protocol: tcp, pool: new }
`;
	const { changes } = await rig.daemon.reload();
	assert.deepEqual(changes, [
		'source two removed',
		'pool api removed',
		'pool new added',
		'vip 203.0.113.2:80/tcp removed',
		'vip 203.0.113.3:80/tcp added',
	]);
	assert.ok(two.isClosed);
	assert.deepEqual(rig.source('one').watched, ['new', 'web']);
	rig.source('one').set('new', [5]);
	await rig.env.advance(100);
	assert.deepEqual([...rig.fake.actual().pools.keys()].sort(), ['new', 'web']);
	assert.deepEqual([...rig.fake.actual().vips.keys()].sort(), ['203.0.113.1:80/tcp', '203.0.113.3:80/tcp']);
	await rig.daemon.stop();
});

test('a reload with a mistake keeps the old configuration', async () => {
	const rig = new Rig();
	await rig.daemon.start();
	rig.answer();
	await rig.env.advance(100);
	const journal = rig.fake.journal.length;
	rig.config = `${CONFIG}\nnonsense: 1\n`;
	await assert.rejects(rig.daemon.reload(), withCode('E_CONFIG', /mistake/));
	rig.config = CONFIG.replace('protocol: tcp, pool: web', 'protocol: tcp, pool: web, flags: [local]');
	await assert.rejects(rig.daemon.reload(), withCode('E_NOT_BUILT', /local/));
	await rig.env.advance(1000);
	assert.equal(rig.fake.journal.length, journal);
	assert.equal(rig.daemon.status().state, 'ok');
	assert.equal(rig.told('READY'), 3, 'systemd is told that each reload is over');
	await rig.daemon.stop();
});

test('what a running program is made from waits for the next start, and goes on being reported', async () => {
	const rig = new Rig();
	await rig.daemon.start();
	rig.answer();
	await rig.env.advance(100);
	rig.config = CONFIG.replace('ring_size: 101', 'ring_size: 103').replace('max_backends_per_pool: 64', 'max_backends_per_pool: 1');
	for (let i = 0; i < 2; i++) {
		const report = await rig.daemon.reload();
		assert.deepEqual(report.at_next_start, ['datapath.ring_size', 'datapath.max_backends_per_pool']);
	}
	await rig.env.advance(1000);
	assert.equal(rig.daemon.status().pools[0]?.backends.length, 2, 'the limit of the running program counts');
	await rig.daemon.stop();
});

test('a pool that is moved to another source follows that source alone', async () => {
	const rig = new Rig();
	await rig.daemon.start();
	rig.answer();
	await rig.env.advance(100);
	rig.config = CONFIG.replace('web: { from: { source: one, service: web } }', 'web: { from: { source: two, service: web } }');
	await rig.daemon.reload();
	rig.source('one').set('web', [9]);
	rig.source('two').set('web', [3, 4]);
	await rig.env.advance(100);
	const web = rig.daemon.status().pools.find((p) => p.name === 'web');
	assert.deepEqual(
		web?.backends.filter((b) => b.state === 'active').map((b) => b.address),
		['10.0.0.3', '10.0.0.4'],
	);
	assert.deepEqual(rig.source('one').watched, []);
	await rig.daemon.stop();
});

test('a fixed gateway replaces the one that was followed', async () => {
	const rig = new Rig();
	await rig.daemon.start();
	rig.config = CONFIG.replace('ring_size: 101', 'ring_size: 101, gateway_mac: "02:00:00:00:00:42"');
	const { changes } = await rig.daemon.reload();
	assert.deepEqual(changes, ['datapath.gateway_mac changed']);
	assert.deepEqual([...rig.fake.gatewayMac], [2, 0, 0, 0, 0, 0x42]);
	assert.equal(rig.host.listeners.size, 0);
	await rig.daemon.stop();
});

test('a backend that becomes an address of this host goes without anybody asking', async () => {
	const rig = new Rig();
	await rig.daemon.start();
	rig.answer();
	await rig.env.advance(100);
	rig.host.addresses = [address('10.9.0.1'), address('10.0.0.2')];
	await rig.env.advance(40_000);
	assert.deepEqual([...(rig.fake.actual().pools.get('web')?.backends.keys() ?? [])], ['10.0.0.1']);
	await rig.daemon.stop();
});

test('the watchdog hears from a daemon that works, and not from one whose round is stuck', async () => {
	const env = new VirtualEnv();
	let isStuck = false;
	const fake = new FakeDatapath({ env, limits: { ringSize: 101 }, gate: () => (isStuck ? new Promise(() => {}) : Promise.resolve()) });
	const rig = new Rig(fake);
	await rig.daemon.start();
	rig.answer();
	await rig.env.advance(5000);
	assert.ok(rig.told('WATCHDOG') >= 5);
	isStuck = true;
	rig.source('one').set('web', [1, 2, 3]);
	await rig.env.advance(61_000);
	const before = rig.told('WATCHDOG');
	await rig.env.advance(10_000);
	assert.equal(rig.told('WATCHDOG'), before);
});
