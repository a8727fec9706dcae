// SPDX-License-Identifier: Apache-2.0
// `xdpilot simulate` as its users meet it: files in, one JSON line a frame out, nothing taken from the host.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isXdpilotError } from '../../src/errors.ts';
import { address } from '../../src/model/address.ts';
import { BALANCER_MAC, ETHER_TYPE, ethernet, flowFrame, icmp, patch, TCP } from '../support/packet-builder.ts';
import { whyNoBpf } from '../support/privileged.ts';
import { simulateFrames } from '../support/simulating.ts';

const skip = whyNoBpf() ?? false;
const CLIENT = address('192.0.2.7');
const VIP = address('203.0.113.10');

const pool = (service: string) => ({ from: { source: 'static', service } });
const CONFIG = {
	datapath: { gateway_mac: '02:00:00:00:00:99' },
	sources: { static: { kind: 'file', path: 'services.yaml' } },
	pools: { web: pool('web'), empty: pool('empty') },
	vips: [
		{ address: VIP, port: 443, protocol: 'tcp', pool: 'web' },
		{ address: VIP, port: 80, protocol: 'tcp', pool: 'empty' },
		{ address: '2001:db8::10', port: 443, protocol: 'tcp', pool: 'web' },
	],
};
const SERVICES = { services: { web: [{ address: '10.0.0.1' }, { address: 'fc00::2' }], empty: [] } };

const tcp = (over: { source?: string; dest?: string; sourcePort?: number; destPort?: number; flags?: number } = {}) =>
	flowFrame({
		source: address(over.source ?? CLIENT),
		dest: address(over.dest ?? VIP),
		sourcePort: over.sourcePort ?? 40_000,
		destPort: over.destPort ?? 443,
		flags: over.flags ?? TCP.syn,
	});

test('each frame gets its line: verdict, bytes, vip, backend and reason', { skip }, async () => {
	const frames = [
		tcp(),
		tcp({ destPort: 80 }),
		tcp({ destPort: 22 }),
		ethernet(ETHER_TYPE.arp, new Uint8Array(28)),
		icmp(CLIENT, VIP, { type: 8 }),
		Uint8Array.of(1, 2, 3),
	];
	const { lines, sent, stderr } = await simulateFrames(CONFIG, SERVICES, frames);
	assert.equal(stderr, '');
	assert.deepEqual(
		lines.map((l) => l.frame),
		[0, 1, 2, 3, 4, 5],
	);
	assert.deepEqual(
		lines.map(({ verdict, vip, reason }) => ({ verdict, vip, reason })),
		[
			{ verdict: 'tx', vip: '203.0.113.10:443/tcp', reason: null },
			{ verdict: 'drop', vip: null, reason: 'pool_empty' },
			{ verdict: 'pass', vip: null, reason: null },
			{ verdict: 'pass', vip: null, reason: null },
			{ verdict: 'tx', vip: null, reason: 'echo_reply' },
			{ verdict: 'drop', vip: null, reason: 'truncated' },
		],
	);
	assert.ok(lines[0]?.backend === '10.0.0.1' || lines[0]?.backend === 'fc00::2');
	const out = Buffer.from(lines[0]?.out ?? '', 'base64');
	assert.equal(out.subarray(0, 6).toString('hex'), '020000000099');
	assert.deepEqual(out.subarray(6, 12), Buffer.from(BALANCER_MAC));
	for (const i of [1, 2, 3, 5]) assert.equal(lines[i]?.out, Buffer.from(frames[i] ?? []).toString('base64'));
	// What would leave, and nothing else, is in the written capture.
	assert.deepEqual(
		sent.map((f) => Buffer.from(f.bytes).toString('base64')),
		[lines[0]?.out, lines[4]?.out],
	);
});

test('frames share one flow table, as they would on a live interface', { skip }, async () => {
	const flow = (sourcePort: number, flags: number) => tcp({ sourcePort, flags });
	const frames = Array.from({ length: 20 }, (_, i) => [flow(5000 + i, TCP.syn), flow(5000 + i, TCP.ack)]).flat();
	const { lines } = await simulateFrames(CONFIG, SERVICES, frames);
	for (let i = 0; i < lines.length; i += 2) assert.equal(lines[i]?.backend, lines[i + 1]?.backend);
	assert.deepEqual(new Set(lines.map((l) => l.backend)), new Set(['10.0.0.1', 'fc00::2']));
});

test('the same files give the same bytes every time', { skip }, async () => {
	const frames = Array.from({ length: 10 }, (_, i) => tcp({ source: `192.0.2.${i + 1}` }));
	const first = await simulateFrames(CONFIG, SERVICES, frames);
	assert.deepEqual((await simulateFrames(CONFIG, SERVICES, frames)).lines, first.lines);
});

test('without a gateway a documented address stands in for it', { skip }, async () => {
	const config = { ...CONFIG, datapath: {} };
	const { lines } = await simulateFrames(config, SERVICES, [tcp()]);
	assert.equal(
		Buffer.from(lines[0]?.out ?? '', 'base64')
			.subarray(0, 6)
			.toString('hex'),
		'020000000001',
	);
});

test('what this version does not have is warned of, and the rest is simulated', { skip }, async () => {
	const config = {
		...CONFIG,
		datapath: { ...CONFIG.datapath, interface: ['eth0', 'eth1'] },
		vips: [...CONFIG.vips, { address: '2001:db8:1::1', port: 443, protocol: 'tcp', pool: 'web', flags: ['global_flow_table'] }],
	};
	const { lines, stderr } = await simulateFrames(config, SERVICES, [tcp()]);
	assert.equal(lines[0]?.verdict, 'tx');
	for (const key of ['datapath.interface', 'vips[3]']) assert.ok(stderr.includes(key), `${key} in ${stderr}`);
});

test('a broken frame changes nothing for those after it', { skip }, async () => {
	const good = tcp({ flags: TCP.ack });
	const frames = [good, patch(good, 14, 0x4f), patch(good, 12, 0x86, 0xdd), good.subarray(0, 30), good];
	const { lines } = await simulateFrames(CONFIG, SERVICES, frames);
	assert.equal(lines[4]?.backend, lines[0]?.backend);
	assert.equal(lines[4]?.out, lines[0]?.out);
});

test('a service that the source does not have is an error that names the pool', { skip }, async () => {
	const config = { ...CONFIG, sources: { static: { kind: 'file', path: 'nowhere.yaml' } } };
	await assert.rejects(
		simulateFrames(config, SERVICES, [tcp()]),
		(e) => isXdpilotError(e) && e.code === 'E_SOURCE' && /pool (web|empty)/.test(e.message),
	);
});

test('a frame that no program can be run on is named', { skip }, async () => {
	const frames = [tcp(), ethernet(ETHER_TYPE.ipv4, new Uint8Array(200_000))];
	await assert.rejects(
		simulateFrames(CONFIG, SERVICES, frames),
		(e) => isXdpilotError(e) && e.message.startsWith('frame 1 (200014 bytes)'),
	);
});
