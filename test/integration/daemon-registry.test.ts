// SPDX-License-Identifier: Apache-2.0
// The real daemon on real registries that fall ill: killed, wiped, back again. What packets get is asked of the pinned
// program itself.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Flow } from '../../src/datapath/datapath.ts';
import { type Address, address } from '../../src/model/address.ts';
import { ConsulServer, skipWithoutConsul } from '../support/consul-server.ts';
import { DaemonBox, GATEWAY_MAC } from '../support/daemon-process.ts';
import { EtcdServer, skipWithoutEtcd } from '../support/etcd-server.ts';
import { inNamespace } from '../support/netns-thread.ts';
import { whyNoBpf } from '../support/privileged.ts';

const A = address('10.88.1.1');
const B = address('10.88.1.2');
const C = address('10.88.1.3');

/** One registry, as far as these tests use it. */
interface Registry {
	readonly source: string;
	register(a: Address): Promise<void>;
	deregister(a: Address): Promise<void>;
	/** Its lease ends, or its check fails. */
	fail(a: Address): Promise<void>;
	stop(): Promise<void>;
	/** Back with nothing in it. */
	restartEmpty(): Promise<void>;
	dispose(): Promise<void>;
}

async function etcd(): Promise<Registry> {
	const server = await EtcdServer.start();
	const leases = new Map<Address, string>();
	const key = (a: Address) => `/services/web/${a}`;
	return {
		source: `{ kind: etcd, endpoints: ["${server.url}"] }`,
		async register(a) {
			const lease = await server.grant(3600);
			leases.set(a, lease);
			await server.put(key(a), `{"address":"${a}"}`, lease);
		},
		async deregister(a) {
			await server.delete(key(a));
		},
		fail: (a) => server.revoke(leases.get(a) ?? '0'),
		stop: () => server.stop(),
		restartEmpty: () => server.restartEmpty(),
		dispose: () => server.dispose(),
	};
}

async function consul(): Promise<Registry> {
	const server = await ConsulServer.start();
	return {
		source: `{ kind: consul, address: "${server.url}" }`,
		register: (a) => server.register({ id: a, service: 'web', address: a }),
		deregister: (a) => server.deregister(a),
		fail: (a) => server.setCheck(a, 'critical'),
		stop: () => server.stop(),
		restartEmpty: () => server.restart(),
		dispose: () => server.dispose(),
	};
}

const CONFIG = (registry: Registry) => `
allowed_backends: [10.88.0.0/16]
sources: { registry: ${registry.source} }
pools: { web: { from: { source: registry, service: web }, drain: 1s } }
vips: [ { address: 203.0.113.10, port: 80, protocol: tcp, pool: web } ]
`;

/** A new flow for each n. */
const flow = (n: number): Flow => ({
	source: address(`192.0.2.${1 + (n % 200)}`),
	sourcePort: 1024 + n,
	dest: address('203.0.113.10'),
	destPort: 80,
	protocol: 'tcp',
});

for (const { name, open, skip } of [
	{ name: 'etcd', open: etcd, skip: skipWithoutEtcd },
	{ name: 'Consul', open: consul, skip: skipWithoutConsul },
]) {
	test(`${name}: followed, killed, wiped and back, it never takes a living backend away`, {
		skip: whyNoBpf() ?? skip,
		timeout: 180_000,
	}, async () => {
		const box = await DaemonBox.create(name.toLowerCase());
		try {
			await inNamespace(box.netns, async () => {
				const registry = await open();
				try {
					await follow(box, registry);
				} finally {
					await registry.dispose();
				}
			});
		} finally {
			await box.remove();
		}
	});
}

async function follow(box: DaemonBox, registry: Registry): Promise<void> {
	let next = 0;
	const serving = (n = 30) => new Set(Array.from({ length: n }, () => box.forward(flow(next++)).to));
	for (const a of [A, B]) await registry.register(a);
	box.configure(CONFIG(registry), `, gateway_mac: "${GATEWAY_MAC}"`);
	const daemon = box.start();
	await box.untilActive('web', A, B);
	await daemon.untilLogged(/ready: /);

	await registry.register(C);
	await box.untilActive('web', A, B, C);
	await registry.fail(C);
	const failed = await box.untilActive('web', A, B);
	assert.equal(failed.pools[0]?.backends.find((b) => b.address === C)?.state ?? 'down', 'down');
	// The state is written first: until the ring without it is in, new flows may still be given to it.
	await box.until('the ring follows', () => !serving().has(C));
	assert.deepEqual(serving(), new Set([A, B]));

	await registry.stop();
	const down = await box.until('the source is known to be away', (s) => s.sources[0]?.state !== 'up');
	assert.equal(down.state, 'degraded');
	assert.deepEqual(serving(), new Set([A, B]));

	await registry.restartEmpty();
	const held = await box.until('a wiped registry is held', (s) => s.pools[0]?.state === 'held');
	assert.equal(held.pools[0]?.hold?.removed, 2);
	assert.deepEqual(serving(), new Set([A, B]));
	const { generation } = held.pools[0]?.ring ?? {};

	for (const a of [A, B]) await registry.register(a);
	const healed = await box.until('the hold is over', (s) => s.pools[0]?.hold === null);
	assert.equal(healed.pools[0]?.ring?.generation, generation, 'no ring was touched by all this');

	await registry.deregister(A);
	await box.untilActive('web', B);
	await registry.deregister(B);
	await box.until("an owner's scale to zero passes at once", (s) => s.pools[0]?.state === 'empty');
	await box.until('drained ones are gone', (s) => s.pools[0]?.backends.every((b) => b.state === 'down') === true);
	assert.deepEqual(serving(3), new Set(['drop']));
}
