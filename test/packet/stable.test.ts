// SPDX-License-Identifier: Apache-2.0
// UDP stable routing: a datagram whose payload is 0x52, a 24-bit server id and at least 4 bytes more goes to that
// server; everything else takes the flow table and the ring, which the id neither asks nor changes.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, suite, test } from 'node:test';
import { type Address, address } from '../../src/model/address.ts';
import { loadNative } from '../../src/native/binding.ts';
import { LbInstance, outerDestination } from '../support/lb-instance.ts';
import { type FlowPacket, flowFrame, flowIp, hex, icmp } from '../support/packet-builder.ts';
import { whyNoBpf } from '../support/privileged.ts';
import { simulateFrames } from '../support/simulating.ts';

const RING = '10.0.0.1';
const NAMED = '10.0.0.2';
const OTHER = '10.0.0.3';
const VIP4 = address('10.200.1.90');
const VIP6 = address('fc00:1::9');
const PORT = 80;
const ID = 0x030402;

const payload = (...start: readonly number[]) => Uint8Array.of(...start, ...new Array<number>(8).fill(0xee));
const named = payload(0x52, 0x03, 0x04, 0x02);

function datagram(bytes: Uint8Array, more: Partial<FlowPacket> = {}): FlowPacket {
	return { source: address('192.168.1.1'), dest: VIP4, sourcePort: 31337, destPort: PORT, flags: 'udp', payload: bytes, ...more };
}

suite('UDP stable routing', { skip: whyNoBpf() ?? false }, () => {
	let lb: LbInstance;

	beforeEach(() => {
		lb = new LbInstance(loadNative(), { options: { serverIds: true } });
		lb.setVips([
			{ address: VIP4, port: PORT, protocol: 'udp', pool: 1, flags: ['udp_stable_routing'] },
			{ address: VIP6, port: PORT, protocol: 'udp', pool: 2, flags: ['udp_stable_routing'] },
			{ address: '10.200.1.91', port: PORT, protocol: 'udp', pool: 1 },
		]);
		for (const [i, a] of [RING, NAMED, OTHER, 'fc00::1', 'fc00::2'].entries()) lb.setBackend(i + 1, a);
		lb.setRing(1, [1]);
		lb.setRing(2, [4]);
		lb.setServerId(ID, 2);
	});
	afterEach(() => lb.close());

	function send(bytes: Uint8Array, more: Partial<FlowPacket> = {}): Address | string {
		const { verdict, out, reason } = lb.run(flowFrame(datagram(bytes, more)));
		return verdict === 'tx' ? outerDestination(out) : (reason ?? verdict);
	}

	test('follows the server id of a datagram, and of one of just 8 bytes', () => {
		assert.equal(send(named), NAMED);
		assert.equal(send(named.subarray(0, 8)), NAMED);
	});

	for (const [name, bytes] of Object.entries({
		'another first byte': payload(0x53, 0x03, 0x04, 0x02),
		'a datagram of 7 bytes': named.subarray(0, 7),
		'an empty datagram': new Uint8Array(0),
		'server id 0': payload(0x52, 0, 0, 0),
		'an unknown server id': payload(0x52, 0, 0, 9),
		'a QUIC connection id': payload(0x40, 0x80, 0x03, 0x04, 0x02),
	})) {
		test(`takes the ring for ${name}`, () => assert.equal(send(bytes), RING));
	}

	test('works alike over IPv6', () => {
		lb.setServerId(5, 5);
		const over6 = { source: address('fc00:2::1'), dest: VIP6 };
		assert.equal(send(payload(0x52, 0, 0, 5), over6), 'fc00::2');
		assert.equal(send(payload(0x51, 0, 0, 5), over6), 'fc00::1');
	});

	test('is for vips with the flag only', () => assert.equal(send(named, { dest: address('10.200.1.91') }), RING));

	test('neither asks nor changes the flow table', () => {
		assert.equal(send(named), NAMED);
		assert.deepEqual(lb.flowEntries(), []);
		assert.equal(send(payload(0)), RING);
		lb.setRing(1, [3]);
		assert.equal(send(named), NAMED);
		assert.equal(send(payload(0)), RING, 'the entry that the ring made is still there');
	});

	test('takes flow table and ring for an id whose backend is gone, and counts it', () => {
		lb.setServerId(7, 60);
		const counted = lb.counted(() => assert.equal(send(payload(0x52, 0, 0, 7)), RING));
		assert.deepEqual(counted, { stable_backend_gone: 1 });
	});

	test('counts what datagrams said', () => {
		const counted = lb.counted(() => {
			send(named);
			send(payload(0x52, 0, 0, 9));
			send(payload(0x52, 0, 0, 0));
			send(payload(0x40));
			send(new Uint8Array(0));
		});
		assert.deepEqual(counted, { stable_routed: 1, stable_ring: 4, stable_other_type: 2, stable_id_unknown: 1 });
	});

	test('reads no id from what an ICMP error quotes', () => {
		send(payload(0));
		const flow = datagram(named);
		const quote = flowIp({ ...flow, source: flow.dest, dest: flow.source, sourcePort: flow.destPort, destPort: flow.sourcePort });
		assert.equal(outerDestination(lb.run(icmp(address('10.9.9.9'), VIP4, { type: 3, code: 1, payload: quote })).out), RING);
	});
});

test('a configured server id decides in a simulation, byte for byte', { skip: whyNoBpf() ?? false }, async () => {
	const config = {
		datapath: { gateway_mac: '00:00:de:ad:be:af', server_ids: [{ address: '10.0.0.2', ids: [ID] }] },
		sources: { static: { kind: 'file', path: 'services.yaml' } },
		pools: { game: { from: { source: 'static', service: 'game' } } },
		vips: [{ address: VIP4, port: PORT, protocol: 'udp', pool: 'game', flags: ['udp_stable_routing'] }],
	};
	const packet = datagram(named);
	const { lines, stderr } = await simulateFrames(config, { services: { game: [{ address: RING }] } }, [flowFrame(packet)]);
	assert.equal(stderr, '');
	// Outer IPv4: length 20 + 40 = 0x3c, source 172.16.(1^0x69).(1^0x7a), checksum ~(0x4500+0x003c+0x4004+0xac10+0x687b+0x0a00+0x0002).
	const outer = '4500003c0000000040045c31ac10687b0a000002';
	const expected = `0000deadbeaf0200000000020800${outer}${hex(flowIp(packet))}`;
	assert.equal(Buffer.from(lines[0]?.out ?? '', 'base64').toString('hex'), expected);
	assert.equal(lines[0]?.backend, NAMED);
});
