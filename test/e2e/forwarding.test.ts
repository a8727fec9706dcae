// SPDX-License-Identifier: Apache-2.0
// Real packets from a client through the load balancer to real servers and straight back: TCP and UDP, IPv4 and IPv6,
// all three encapsulations, ICMP echo, and ICMP errors that must find the one backend that they are about.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { nodeScript } from '../../src/demo/node-script.ts';
import type { Exchange, Target } from '../../src/demo/traffic/exchange.ts';
import { answersByBackend, failures, movedFlows, unconfirmedAnswers } from '../../src/demo/traffic/tally.ts';
import { address } from '../../src/model/address.ts';
import { Fabric, hasRings, icmpFlow, whyNoFabric } from '../support/fabric.ts';
import { until } from '../support/server-process.ts';

const IN_IPV4: Target = { address: address('203.0.113.10'), port: 80 };
const IN_IPV6: Target = { address: address('2001:db8:113::10'), port: 80 };
/** An IPv4 vip whose backends are known by IPv6 addresses. */
const IPV4_IN_IPV6: Target = { address: address('203.0.113.46'), port: 80 };
const TARGETS = [IN_IPV4, IN_IPV6, IPV4_IN_IPV6];
const NAMES = ['b1', 'b2', 'b3'];
/** What fits into 1500 bytes behind an outer IPv6 header; a frame has 14 more. */
const LARGEST_PACKET = 1460;
const DATAPATH = { max_frame: LARGEST_PACKET + 14 };
const BULK_PORT = 81;
const BULK_BYTES = 400_000;
const MTU = fileURLToPath(new URL('../support/traffic-mtu.py', import.meta.url));
const ICMP = fileURLToPath(new URL('../support/traffic-icmp.py', import.meta.url));

const CONFIG = {
	pools: { web: { from: { source: 'file', service: 'web' } }, web6: { from: { source: 'file', service: 'web6' } } },
	vips: [
		...TARGETS.flatMap((t) =>
			['tcp', 'udp'].map((protocol) => ({ address: t.address, port: 80, protocol, pool: t === IN_IPV4 ? 'web' : 'web6' })),
		),
		...[IN_IPV4, IN_IPV6].map((t) => ({ address: t.address, port: BULK_PORT, protocol: 'tcp', pool: t === IN_IPV4 ? 'web' : 'web6' })),
	],
};

describe('packets through the load balancer', { skip: whyNoFabric() ?? false, timeout: 180_000 }, () => {
	const closers: (() => unknown)[] = [];
	let fabric: Fabric;

	before(async () => {
		fabric = await Fabric.create(
			{ after: (fn) => closers.push(fn as () => unknown) },
			{ label: 'fwd', backends: 3, targets: TARGETS, config: CONFIG, datapath: DATAPATH },
		);
		fabric.register(fabric.backends);
		await fabric.daemon.start((s) => s.state === 'ok' && hasRings(s, 3));
	});

	after(async () => {
		for (const close of closers.reverse()) await close();
	});

	test('TCP and UDP reach every backend in all three encapsulations, and every answer comes back', async () => {
		const load = await fabric.startLoad();
		// So many UDP flows a vip that one of its three backends gets none once in 200,000 runs.
		load.begin(fabric.loadPlan({ newPerSecond: 60, kept: 4, datagramFlows: 36, paceMs: 100, deadlineMs: 5000 }));
		const of = (target: Target, kind: string) => load.exchanges.filter((e) => e.kind === kind && e.flow.includes(`>${textOf(target)}/`));
		const reachesAll = (exchanges: readonly Exchange[]) => NAMES.every((n) => answersByBackend(exchanges).has(n));
		await until(
			'each vip has brought each backend TCP connections and UDP flows',
			() => {
				load.check();
				return TARGETS.every((t) => reachesAll(of(t, 'new')) && reachesAll(of(t, 'datagram')) && of(t, 'kept').length > 20);
			},
			30_000,
		);
		await load.stop();
		const records = () => fabric.backends.map((b) => ({ name: b.name, flows: b.seen.values(), diedAt: null }));
		await until('the servers have reported what they saw', () => unconfirmedAnswers(load.exchanges, records()).length === 0);
		assert.deepEqual(failures(load.exchanges), []);
		assert.deepEqual(movedFlows(load.exchanges, records()), []);
	});

	test('ICMP echo to a vip is answered', async () => {
		const { client } = fabric.topology;
		const vips = TARGETS.map((t) => t.address);
		const counts = JSON.parse(await fabric.topology.run(client, ['python3', ICMP, 'echo', '1', '0.02', ...vips], 20_000));
		for (const vip of vips) {
			assert.ok(counts[vip].sent >= 10);
			assert.equal(counts[vip].received, counts[vip].sent, vip);
		}
	});

	test('an ICMP error finds the backend of the flow that it is about, and no other', async () => {
		const load = await fabric.startLoad();
		load.begin(fabric.loadPlan({ newPerSecond: 0, kept: 3, datagramFlows: 3, paceMs: 40, deadlineMs: 5000 }));
		await until('every flow has an owner', () => new Set(load.exchanges.map((e) => e.flow)).size === 18);
		const owners = new Map(load.exchanges.map((e) => [e.flow, e.backend ?? '']));
		const errorCounters = async () =>
			Promise.all(
				fabric.topology.backends.map(async (node) => ({
					ipv4: await fabric.counter(node, 'IcmpMsgInType3'),
					ipv6: await fabric.counter(node, 'Icmp6InPktTooBigs'),
				})),
			);
		const earlier = await errorCounters();
		const flows = [...owners.keys()];
		await fabric.topology.run(fabric.topology.client, ['python3', ICMP, 'error', '10', '0.01', ...flows.map(icmpFlow)], 20_000);
		const expected = fabric.topology.backends.map((node, i) => {
			const owned = flows.filter((f) => owners.get(f) === node.name);
			const six = owned.filter((f) => f.startsWith('[')).length;
			return { ipv4: (earlier[i]?.ipv4 ?? 0) + 10 * (owned.length - six), ipv6: (earlier[i]?.ipv6 ?? 0) + 10 * six };
		});
		await until('all errors have arrived', async () => total(await errorCounters()) >= total(expected), 5000).catch(() => {});
		assert.deepEqual(await errorCounters(), expected);
		await load.stop();
		assert.deepEqual(failures(load.exchanges), []);
	});

	test('a datagram that leaves no room for the outer header is refused with the size that does', async () => {
		const { client } = fabric.topology;
		const vips = TARGETS.map((t) => t.address);
		const found: { target: string; mtu: number | null; answer: string }[] = JSON.parse(
			await fabric.topology.run(client, ['python3', MTU, '80', ...vips], 60_000),
		);
		assert.deepEqual(
			found.map((f) => [f.target, f.mtu]),
			vips.map((vip) => [vip, LARGEST_PACKET]),
		);
		for (const { target, answer } of found) assert.ok(NAMES.includes(answer), `${target}: ${answer}`);
	});

	test('a narrow link on the way to the client is discovered: large answers arrive from every backend', async () => {
		const { topology } = fabric;
		const script = nodeScript(import.meta.url, '../support/traffic-bulk-server');
		for (const node of topology.backends) {
			const addresses = [IN_IPV4.address, IN_IPV6.address];
			topology.spawn(node, [...script, node.name, String(BULK_BYTES), String(BULK_PORT), ...addresses], { name: `bulk ${node.name}` });
		}
		await topology.runRouter(['ip', 'link', 'set', topology.client.routerInterface, 'mtu', '1400']);
		const download = async (times: number, vip: string): Promise<{ name: string; bytes: number; error: string | null }[]> => {
			const argv = nodeScript(import.meta.url, '../support/traffic-download', String(times), '10000', String(BULK_PORT), vip);
			return JSON.parse(await topology.run(topology.client, argv, 60_000));
		};
		await until('the bulk servers listen', async () => (await download(1, IN_IPV4.address)).every((d) => d.error === null), 30_000);
		for (const vip of [IN_IPV4.address, IN_IPV6.address]) {
			const done = await download(24, vip);
			assert.deepEqual(
				done.filter((d) => d.error !== null || d.bytes !== BULK_BYTES),
				[],
				vip,
			);
			assert.deepEqual([...new Set(done.map((d) => d.name))].sort(), NAMES, vip);
		}
		for (const node of topology.backends) {
			assert.ok((await fabric.counter(node, 'IcmpMsgInType3')) > 0, `${node.name} was told about IPv4`);
			assert.ok((await fabric.counter(node, 'Icmp6InPktTooBigs')) > 0, `${node.name} was told about IPv6`);
		}
	});
});

function textOf(target: Target): string {
	return target.address.includes(':') ? `[${target.address}]:${target.port}` : `${target.address}:${target.port}`;
}

function total(counts: readonly { ipv4: number; ipv6: number }[]): number {
	return counts.reduce((sum, c) => sum + c.ipv4 + c.ipv6, 0);
}
