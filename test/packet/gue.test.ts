// SPDX-License-Identifier: Apache-2.0
// GUE towards backends: Katran's bytes by known answers, true checksums where `gue_checksum: exact` promises them, and
// what happens when this host has no address to send from.
import assert from 'node:assert/strict';
import { afterEach, suite, test } from 'node:test';
import type { DatapathOptions } from '../../src/datapath/options.ts';
import { type Address, address, addressBytes, familyOf } from '../../src/model/address.ts';
import { loadNative } from '../../src/native/binding.ts';
import { GATEWAY_MAC, LbInstance, type LbVip } from '../support/lb-instance.ts';
import { checksum, concat, type FlowPacket, flowFrame, flowIp, hex, icmp, ip, PROTOCOL, patch, words } from '../support/packet-builder.ts';
import { whyNoBpf } from '../support/privileged.ts';

const VIP4: LbVip = { address: '10.200.1.1', port: 80, protocol: 'udp', pool: 1 };
const VIP4_TO_6: LbVip = { address: '10.200.1.3', port: 80, protocol: 'udp', pool: 2 };
const VIP6: LbVip = { address: 'fc00:1::1', port: 80, protocol: 'udp', pool: 2 };
const VIP_DEST_PORT: LbVip = { address: '10.200.1.4', port: 80, protocol: 'udp', pool: 1, flags: ['hash_dest_port_only'] };
const BACKEND4 = '10.0.0.1';
const BACKEND6 = 'fc00::1';
const SOURCE4 = address('10.0.13.37');
const SOURCE6 = address('fc00:2307::1337');
const PORT = 6080;
const OUTER_UDP = { 4: 14 + 20, 6: 14 + 40 } as const;

/** The frame of the known answers: 192.168.1.1:31337 to port 80, UDP, identification 1. */
function flowTo(dest: string, more: Partial<FlowPacket> = {}): FlowPacket {
	const source = address(dest.includes(':') ? 'fc00:2::1' : '192.168.1.1');
	return {
		source,
		dest: address(dest),
		sourcePort: 31337,
		destPort: 80,
		flags: 'udp',
		payload: new TextEncoder().encode('katran test pkt'),
		...more,
	};
}

/** Fails unless the outer UDP checksum is that of the whole datagram (RFC 768). */
function assertTrueChecksum(frame: Uint8Array): void {
	const v6 = frame[12] === 0x86;
	const udp = frame.subarray(OUTER_UDP[v6 ? 6 : 4]);
	const addresses = v6 ? frame.subarray(22, 54) : frame.subarray(26, 34);
	assert.notEqual(hex(udp.subarray(6, 8)), '0000', 'there is a checksum');
	assert.equal(checksum(concat(addresses, words(0, udp.length, 0, PROTOCOL.udp)), padded(udp)), 0);
}

function padded(bytes: Uint8Array): Uint8Array {
	return bytes.length % 2 === 0 ? bytes : concat(bytes, new Uint8Array(1));
}

/** The outer headers as RFC 791, 8200 and 768 want them, around a packet that came with a valid checksum. */
function wrapped(packet: Uint8Array, backend: Address, source: Address, port: Uint8Array, tos = 0): Uint8Array {
	const datagram = (sum: number) => concat(port, words(PORT, 8 + packet.length, sum), packet);
	const length = datagram(0).length;
	const pseudo = concat(addressBytes(source), addressBytes(backend), words(0, length, 0, PROTOCOL.udp));
	const sum = checksum(pseudo, padded(datagram(0)));
	const outer = ip(source, backend, PROTOCOL.udp, datagram(sum), { id: 0, tos });
	const type = words(familyOf(backend) === 6 ? 0x86dd : 0x0800);
	return concat(GATEWAY_MAC, Uint8Array.of(2, 0, 0, 0, 0, 2), type, outer);
}

suite('GUE', { skip: whyNoBpf() ?? false }, () => {
	let lb: LbInstance | undefined;
	afterEach(() => lb?.close());

	function start(gue: Partial<DatapathOptions['gue']> = {}): LbInstance {
		lb = new LbInstance(loadNative(), { options: { gue: { port: PORT, source4: SOURCE4, source6: SOURCE6, checksum: 'katran', ...gue } } });
		lb.setVips([VIP4, VIP4_TO_6, VIP6, VIP_DEST_PORT]);
		lb.setBackend(1, BACKEND4, 'active', false, 'gue');
		lb.setBackend(2, BACKEND6, 'active', false, 'gue');
		lb.setRing(1, [1]);
		lb.setRing(2, [2]);
		return lb;
	}

	function sent(frame: Uint8Array): Uint8Array {
		const { verdict, out, reason } = lb?.run(frame) ?? {};
		assert.deepEqual([verdict, reason], ['tx', null]);
		return out ?? new Uint8Array();
	}

	test('the UDP source port and checksum of IPv4 in IPv4 are the known ones', () => {
		start();
		const out = sent(flowFrame(flowTo('10.200.1.1')));
		assert.equal(out.length, 85);
		assert.equal(hex(out.subarray(34, 42)), '687b17c000332bc2');
	});

	test('the UDP source port and checksum of IPv4 in IPv6 are the known ones', () => {
		start();
		const out = sent(flowFrame(flowTo('10.200.1.3')));
		assert.equal(out.length, 105);
		assert.equal(hex(out.subarray(54, 62)), '7b6817c000330bbc');
	});

	test('whole frames of every combination are as the RFCs want them, on new flows and on known ones', () => {
		start();
		const four = flowTo('10.200.1.1', { tos: 0x8d });
		const mixed = flowTo('10.200.1.3', { tos: 0x8d });
		const six = flowTo('fc00:1::1', { tos: 0x8d });
		for (let i = 0; i < 2; i++) {
			assert.equal(hex(sent(flowFrame(four))), hex(wrapped(flowIp(four), address(BACKEND4), SOURCE4, words(0x687b), 0x8d)));
			assert.equal(hex(sent(flowFrame(mixed))), hex(wrapped(flowIp(mixed), address(BACKEND6), SOURCE6, words(0x7b68), 0x8d)));
			assert.equal(hex(sent(flowFrame(six))), hex(wrapped(flowIp(six), address(BACKEND6), SOURCE6, words(0x7a69), 0x8d)));
		}
	});

	test('the source port of a vip that hashes its destination port only holds no client address', () => {
		start();
		for (let i = 0; i < 2; i++) assert.equal(hex(sent(flowFrame(flowTo('10.200.1.4'))).subarray(34, 36)), '697a');
	});

	test('the destination port is gue_port', () => {
		start({ port: 9886 });
		assert.equal(hex(sent(flowFrame(flowTo('10.200.1.1'))).subarray(36, 38)), '269e');
	});

	test("Katran's checksum does not depend on the inner one", () => {
		start();
		const without = patch(flowFrame(flowTo('10.200.1.1')), 14 + 20 + 6, 0, 0);
		assert.equal(hex(sent(without).subarray(34, 42)), '687b17c000332bc2');
	});

	test('exact: a packet with a checksum leaves with the same bytes as ever', () => {
		start({ checksum: 'exact' });
		for (const dest of ['10.200.1.1', '10.200.1.3', 'fc00:1::1']) assertTrueChecksum(sent(flowFrame(flowTo(dest))));
		assert.equal(hex(sent(flowFrame(flowTo('10.200.1.1'))).subarray(34, 42)), '687b17c000332bc2');
	});

	test('exact: UDP without a checksum, of any length, gets a true one around it', () => {
		start({ checksum: 'exact' });
		for (const dest of ['10.200.1.1', '10.200.1.3']) {
			for (const length of [0, 1, 15, 99, 100, 101, 128, 228, 229, 1400]) {
				const payload = Uint8Array.from({ length }, (_, i) => (i * 31 + 7) & 0xff);
				assertTrueChecksum(sent(patch(flowFrame(flowTo(dest, { payload })), 14 + 20 + 6, 0, 0)));
			}
		}
	});

	test('exact: UDP without a checksum that lies about its length gets none', () => {
		start({ checksum: 'exact' });
		const frame = patch(flowFrame(flowTo('10.200.1.1')), 14 + 20 + 6, 0, 0);
		assert.equal(hex(sent(patch(frame, 16, 0xff, 0xff)).subarray(40, 42)), '0000');
	});

	test('exact: an ICMP error gets a true checksum around it, in both families', () => {
		start({ checksum: 'exact' });
		const four = flowIp({ source: address('10.200.1.1'), dest: address('192.168.1.1'), sourcePort: 80, destPort: 31337, flags: 'udp' });
		assertTrueChecksum(sent(icmp(address('192.168.9.9'), address('10.200.1.1'), { type: 3, code: 4, payload: four })));
		const six = flowIp({ source: address('fc00:1::1'), dest: address('fc00:2::1'), sourcePort: 80, destPort: 31337, flags: 'udp' });
		assertTrueChecksum(sent(icmp(address('fc00:9::9'), address('fc00:1::1'), { type: 2, payload: six })));
	});

	test('a host without an address of the family drops under a name of its own', () => {
		start({ source4: null, source6: null });
		for (const dest of ['10.200.1.1', '10.200.1.3', 'fc00:1::1']) {
			const { verdict, reason } = lb?.run(flowFrame(flowTo(dest))) ?? {};
			assert.deepEqual([verdict, reason], ['drop', 'gue_source']);
		}
	});

	test('packets are counted as with any other encapsulation', () => {
		const instance = start();
		const before = instance.counters.vip(instance.vipNumber(VIP4));
		sent(flowFrame(flowTo('10.200.1.1')));
		const after = instance.counters.vip(instance.vipNumber(VIP4));
		assert.deepEqual([after.packets - before.packets, after.bytes - before.bytes], [1n, 43n]);
	});

	test('the frame behind its IP length is carried along, as with IPIP', () => {
		start();
		const frame = concat(flowFrame(flowTo('10.200.1.1')), Uint8Array.of(1, 2, 3));
		const out = sent(frame);
		assert.equal(out.length, 88);
		assert.equal(hex(out.subarray(34, 42)), '687b17c000332bc2');
		assert.equal(hex(out.subarray(42)), hex(frame.subarray(14)));
	});
});
