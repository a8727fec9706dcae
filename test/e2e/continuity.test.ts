// SPDX-License-Identifier: Apache-2.0
// Nothing that the control plane does costs a packet or moves a flow: 500 ring swaps, the daemon killed, 50 programs
// replaced, a new daemon, all under TCP, UDP, ICMP echo and ICMP errors that never stop. Judged at both ends.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { nodeScript } from '../../src/demo/node-script.ts';
import type { Target } from '../../src/demo/traffic/exchange.ts';
import { failures, movedFlows, unconfirmedAnswers } from '../../src/demo/traffic/tally.ts';
import { inNetns } from '../../src/host/command.ts';
import { address } from '../../src/model/address.ts';
import { Fabric, hasRings, icmpFlow, whyNoFabric } from '../support/fabric.ts';
import { until } from '../support/server-process.ts';

const SWAPS = 500;
const REPLACEMENTS = 50;
const TARGETS: readonly Target[] = [address('203.0.113.10'), address('2001:db8:113::10')].map((a) => ({ address: a, port: 80 }));
const ICMP = fileURLToPath(new URL('../support/traffic-icmp.py', import.meta.url));
const LOAD = { newPerSecond: 40, kept: 10, datagramFlows: 10, paceMs: 80, deadlineMs: 5000 };
/** Nothing is gathered: every write of the file is a swap of its own. */
const POOL = { debounce: { quiet: '0ms', max: '0ms' }, drain: '1h' };
const CONFIG = {
	pools: { web: { from: { source: 'file', service: 'web' }, ...POOL }, web6: { from: { source: 'file', service: 'web6' }, ...POOL } },
	vips: TARGETS.flatMap((t, i) => ['tcp', 'udp'].map((protocol) => ({ ...t, protocol, pool: i === 0 ? 'web' : 'web6' }))),
};
/** Retransmissions that the receiver called needless are no losses: a busy machine answers late. */
const RETRANSMITTED = 'TcpRetransSegs';
const NEEDLESS = ['TcpExtTCPDSACKRecv', 'TcpExtTCPDSACKOfoRecv'];

/** Starts the ICMP script; the returned function ends it and gives its counts. */
function startIcmp(t: TestContext, fabric: Fabric, ...args: string[]): () => Promise<Record<string, unknown>> {
	const [file, ...rest] = inNetns(['python3', ICMP, ...args], fabric.topology.client.netns);
	const child = spawn(file, rest, { stdio: ['pipe', 'pipe', 'inherit'] });
	t.after(() => child.kill('SIGKILL'));
	let printed = '';
	child.stdout.on('data', (chunk: Buffer) => {
		printed += chunk.toString();
	});
	return async () => {
		child.stdin.end();
		if (child.exitCode === null) await once(child, 'exit', { signal: AbortSignal.timeout(20_000) });
		return JSON.parse(printed);
	};
}

async function sumOf(fabric: Fabric, names: readonly string[]): Promise<number> {
	const nodes = [fabric.topology.client, ...fabric.topology.backends];
	const counts = await Promise.all(nodes.flatMap((node) => names.map((name) => fabric.counter(node, name))));
	return counts.reduce((a, b) => a + b, 0);
}

test('500 swaps, 50 programs, a killed daemon and its successor cost no packet and move no flow', {
	skip: whyNoFabric() ?? false,
	timeout: 240_000,
}, async (t) => {
	const fabric = await Fabric.create(t, { label: 'cont', backends: 4, targets: TARGETS, config: CONFIG });
	const { daemon, topology } = fabric;
	const three = fabric.backends.slice(0, 3);
	fabric.register(fabric.backends);
	await daemon.start((s) => s.state === 'ok' && hasRings(s, 4));

	const load = await fabric.startLoad();
	load.begin(fabric.loadPlan(LOAD));
	const kept = () => new Map(load.exchanges.filter((e) => e.kind !== 'new').map((e) => [e.flow, e.backend ?? '']));
	await until('the flows that stay are there', () => kept().size === (LOAD.kept + LOAD.datagramFlows) * TARGETS.length);
	const owners = kept();
	// The fourth will leave and come back all the time, and has to keep these meanwhile.
	assert.ok([...owners.values()].includes('b4'));
	const echo = startIcmp(t, fabric, 'echo', '-', '0.01', ...TARGETS.map((v) => v.address));
	const errors = startIcmp(t, fabric, 'error', '-', '0.05', ...[...owners.keys()].map(icmpFlow));

	const swapsOf = async () => (await daemon.status()).ring_swaps;
	const before = await swapsOf();
	for (let i = 0; (await swapsOf()) - before < SWAPS; i++) {
		const wanted = i % 2 === 0 ? three : fabric.backends;
		fabric.register(wanted);
		await daemon.until((s) => hasRings(s, wanted.length), 20_000);
	}
	const swaps = (await swapsOf()) - before;
	await daemon.kill();
	const replaced = await topology.run(
		topology.lb,
		nodeScript(import.meta.url, '../support/replace-programs', fabric.configPath, 'eth0', String(REPLACEMENTS)),
		120_000,
	);
	const after = await daemon.start((s) => s.state === 'ok');

	const echoed = await echo();
	const sent = await errors();
	await load.stop();
	const records = () => fabric.backends.map((b) => ({ name: b.name, flows: [...b.seen.values()], diedAt: null }));
	await until('the servers have reported what they saw', () => unconfirmedAnswers(load.exchanges, records()).length === 0);

	assert.ok(swaps >= SWAPS, `${swaps} swaps`);
	assert.equal(Number(replaced), REPLACEMENTS);
	assert.deepEqual({ adopted: after.adopted, swaps: after.ring_swaps }, { adopted: true, swaps: 0 });
	assert.ok(load.exchanges.length > 1000, `${load.exchanges.length} requests`);
	assert.deepEqual(failures(load.exchanges), []);
	assert.deepEqual(movedFlows(load.exchanges, records()), []);
	assert.deepEqual(
		[...kept()].filter(([flow, backend]) => owners.get(flow) !== backend),
		[],
	);
	for (const { address: vip } of TARGETS) {
		const count = echoed[vip] as { sent: number; received: number };
		assert.ok(count.sent > 100);
		assert.equal(count.received, count.sent, `echoes of ${vip}`);
	}
	for (const node of topology.backends) {
		const of = (six: boolean) => [...owners].filter(([flow, backend]) => backend === node.name && flow.startsWith('[') === six);
		const expected = (six: boolean) => of(six).reduce((sum, [flow]) => sum + Number(sent[icmpFlow(flow)]), 0);
		assert.equal(await fabric.counter(node, 'IcmpMsgInType3'), expected(false), `IPv4 errors at ${node.name}`);
		assert.equal(await fabric.counter(node, 'Icmp6InPktTooBigs'), expected(true), `IPv6 errors at ${node.name}`);
	}
	const lost = (await sumOf(fabric, [RETRANSMITTED])) - (await sumOf(fabric, NEEDLESS));
	assert.ok(lost <= 0, `${lost} TCP segments had to be sent again`);
});
