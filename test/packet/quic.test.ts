// SPDX-License-Identifier: Apache-2.0
// QUIC vips: a connection id that names a server wins over address and ring, so that clients may move; everything else
// takes the flow table and the ring like any datagram.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, suite, test } from 'node:test';
import { type Address, address } from '../../src/model/address.ts';
import { loadNative } from '../../src/native/binding.ts';
import { GATEWAY_MAC, LbInstance, outerDestination } from '../support/lb-instance.ts';
import { wrapped } from '../support/outer-model.ts';
import { type FlowPacket, flowFrame, flowIp, hex, icmp } from '../support/packet-builder.ts';
import { whyNoBpf } from '../support/privileged.ts';

const RING = '10.0.0.1';
const NAMED = '10.0.0.2';
const OTHER = '10.0.0.3';
const VIP4 = address('10.200.1.5');
const VIP6 = address('fc00:1::5');
const QUIC_PORT = 443;

/** A short header: 8 bytes of connection id behind the first byte. */
const short = (...id: readonly number[]) => Uint8Array.of(0x40, ...id, ...new Array<number>(8 - id.length).fill(0));
/** A long header of this type (bits 4 and 5 of the first byte). */
const long = (type: number, id: readonly number[], length = 8) =>
	Uint8Array.of(0xc0 | type, 0, 0, 0, 1, length, ...id, ...new Array<number>(8 - id.length).fill(0));
const TYPE = { initial: 0x00, zeroRtt: 0x10, handshake: 0x20, retry: 0x30 } as const;

/** Server id 1026 in version 1 is spread over three bytes: 6, 8 and 2 bits. */
const V1_1026 = [0x41, 0x00, 0x83] as const;
const V2_197634 = [0x80, 0x03, 0x04, 0x02] as const;
const V3_LARGE = [0xc0, 0xff, 0xee, 0xdd, 0xcc] as const;

suite('QUIC', { skip: whyNoBpf() ?? false }, () => {
	let lb: LbInstance;

	beforeEach(() => {
		lb = new LbInstance(loadNative(), { options: { serverIds: true } });
		lb.setVips([
			{ address: VIP4, port: QUIC_PORT, protocol: 'udp', pool: 1, flags: ['quic'] },
			{ address: VIP4, port: QUIC_PORT, protocol: 'tcp', pool: 1, flags: ['quic'] },
			{ address: VIP6, port: QUIC_PORT, protocol: 'udp', pool: 2, flags: ['quic'] },
			{ address: '10.200.1.6', port: QUIC_PORT, protocol: 'udp', pool: 1 },
		]);
		for (const [i, a] of [RING, NAMED, OTHER, 'fc00::1', 'fc00::2'].entries()) lb.setBackend(i + 1, a);
		lb.setRing(1, [1]);
		lb.setRing(2, [4]);
		for (const id of [1026, 197634, 0xffeeddcc]) lb.setServerId(id, 2);
	});
	afterEach(() => lb.close());

	function datagram(payload: Uint8Array, more: Partial<FlowPacket> = {}): FlowPacket {
		return { source: address('192.168.1.42'), dest: VIP4, sourcePort: 31337, destPort: QUIC_PORT, flags: 'udp', payload, ...more };
	}

	function send(payload: Uint8Array, more: Partial<FlowPacket> = {}): Address | string {
		const { verdict, out, reason } = lb.run(flowFrame(datagram(payload, more)));
		return verdict === 'tx' ? outerDestination(out) : (reason ?? verdict);
	}

	for (const [name, payload] of Object.entries({
		'version 1': short(...V1_1026),
		'version 2': short(...V2_197634),
		'version 3, above 2^31': short(...V3_LARGE),
		'a handshake packet': long(TYPE.handshake, V1_1026),
		'a retry packet': long(TYPE.retry, V2_197634),
		'a connection id longer than 8 bytes': long(TYPE.handshake, V2_197634, 20),
	})) {
		test(`follows the server id of ${name}`, () => {
			const p = datagram(payload);
			const { out } = lb.run(flowFrame(p));
			assert.equal(hex(out), hex(wrapped(flowIp(p), address(NAMED), { address: p.source, port: p.sourcePort }, GATEWAY_MAC)));
		});
	}

	for (const [name, payload] of Object.entries({
		'an initial packet, whose id the client made up': long(TYPE.initial, V1_1026),
		'a 0-RTT packet': long(TYPE.zeroRtt, V2_197634),
		'version 0': short(0x00, 0x00, 0x83),
		'server id 0': short(0x40, 0, 0),
		'an unknown server id': short(0x80, 0x03, 0x04, 0x44),
		'a short header that ends early': short(...V1_1026).subarray(0, 8),
		'a long header that ends early': long(TYPE.handshake, V1_1026).subarray(0, 13),
		'a connection id shorter than 8 bytes': long(TYPE.handshake, V1_1026, 7),
		'an empty datagram': new Uint8Array(0),
	})) {
		test(`takes the ring for ${name}`, () => assert.equal(send(payload), RING));
	}

	test('follows the server id wherever the client moves to', () => {
		for (let i = 0; i < 20; i++) assert.equal(send(short(...V1_1026), { source: address(`10.9.${i}.1`), sourcePort: 1000 + i }), NAMED);
	});

	test('works alike over IPv6', () => {
		lb.setServerId(5, 5);
		const over6 = { source: address('fc00:2::42'), dest: VIP6 };
		assert.equal(send(short(0x80, 0, 0, 5), over6), 'fc00::2');
		assert.equal(send(long(TYPE.initial, []), over6), 'fc00::1');
	});

	test('is for datagrams to vips with the flag only', () => {
		assert.equal(send(short(...V1_1026), { dest: address('10.200.1.6') }), RING);
		assert.equal(send(short(...V1_1026), { flags: 16 }), RING, 'TCP');
	});

	test('keeps a flow on the ring’s backend after an initial packet, and moves it once an id says so', () => {
		send(long(TYPE.initial, []));
		lb.setRing(1, [3]);
		assert.equal(send(new Uint8Array(0)), RING, 'known');
		assert.equal(send(short(...V1_1026)), NAMED);
		assert.equal(send(new Uint8Array(0)), NAMED, 'the id moved the entry');
	});

	test('lets datagrams without an id take the ring where only ids were seen before', () => {
		send(short(...V1_1026));
		assert.equal(send(new Uint8Array(0)), RING);
	});

	test('counts what the ids said and what the flow table knew', () => {
		const counted = lb.counted(() => {
			send(long(TYPE.initial, []));
			send(short(...V1_1026));
			send(short(...V1_1026));
			send(short(...V2_197634), { sourcePort: 4242 });
			send(short(...V3_LARGE), { sourcePort: 4242 });
			send(short(0x80, 0x03, 0x04, 0x44));
			send(new Uint8Array(0), { sourcePort: 4343 });
		});
		assert.deepEqual(counted, {
			quic_initial: 1,
			quic_id_v1: 2,
			quic_id_v2: 2,
			quic_id_v3: 1,
			quic_id_unknown: 1,
			quic_id_unknown_last: 197700,
			quic_routed: 4,
			quic_ring: 2,
			quic_flow_moved: 1,
			quic_flow_same: 2,
			quic_flow_new: 1,
		});
	});

	test('follows an ICMP error by its quoted flow, and counts it', () => {
		send(long(TYPE.initial, []));
		const flow = datagram(new Uint8Array(8));
		const quote = flowIp({ ...flow, source: flow.dest, dest: flow.source, sourcePort: flow.destPort, destPort: flow.sourcePort });
		const error = (code: number) => lb.run(icmp(address('10.9.9.9'), VIP4, { type: 3, code, payload: quote }));
		const counted = lb.counted(() => {
			for (const code of [0, 1, 3, 13]) assert.equal(outerDestination(error(code).out), RING);
		});
		assert.deepEqual(counted, { quic_icmp: 4, quic_icmp_ignorable: 2 });
	});

	test('is ignored where server ids are off', () => {
		const off = new LbInstance(loadNative());
		off.setVips([{ address: VIP4, port: QUIC_PORT, protocol: 'udp', pool: 1, flags: ['quic'] }]);
		off.setBackend(1, RING);
		off.setBackend(2, NAMED);
		off.setRing(1, [1]);
		off.setServerId(1026, 2);
		assert.equal(outerDestination(off.run(flowFrame(datagram(short(...V1_1026)))).out), RING);
		off.close();
	});
});
