// SPDX-License-Identifier: Apache-2.0
// What leaves the program for a packet to a vip: the outer headers byte by byte, and the packet inside untouched.
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { type Address, address } from '../../src/model/address.ts';
import { loadNative } from '../../src/native/binding.ts';
import { GATEWAY_MAC, LbInstance } from '../support/lb-instance.ts';
import { wrapped } from '../support/outer-model.ts';
import { concat, ETHER_TYPE, ethernet, type FlowPacket, flowFrame, flowIp, hex, TCP } from '../support/packet-builder.ts';
import { whyNoBpf } from '../support/privileged.ts';

const CLIENT4 = address('192.168.1.1');
const CLIENT6 = address('fc00:2::1');
const text = (s: string) => Uint8Array.from(Buffer.from(s));

suite('forwarding', { skip: whyNoBpf() ?? false }, () => {
	let lb: LbInstance;

	before(() => {
		lb = new LbInstance(loadNative());
		lb.setVips([
			{ address: '10.200.1.1', port: 80, pool: 1 },
			{ address: '10.200.1.1', port: 80, protocol: 'udp', pool: 1 },
			{ address: '10.200.1.3', port: 80, pool: 2 },
			{ address: '10.200.1.3', port: 80, protocol: 'udp', pool: 2 },
			{ address: 'fc00:1::1', port: 80, pool: 2 },
			{ address: 'fc00:1::1', port: 80, protocol: 'udp', pool: 2 },
			{ address: '10.200.1.4', port: 80, pool: 1, flags: ['hash_no_source_port'] },
			{ address: '10.200.1.5', port: 80, pool: 1, flags: ['hash_dest_port_only'] },
			{ address: 'fc00:1::5', port: 80, pool: 2, flags: ['hash_dest_port_only'] },
		]);
		lb.setBackend(1, '10.0.0.1');
		lb.setBackend(2, 'fc00::1');
		lb.setRing(1, [1]);
		lb.setRing(2, [2]);
	});
	after(() => lb.close());

	const packets: Record<string, FlowPacket & { readonly backend: Address }> = {
		'IPv4 TCP in IPv4': flow(CLIENT4, '10.200.1.1', '10.0.0.1', {}),
		'IPv4 UDP in IPv4': flow(CLIENT4, '10.200.1.1', '10.0.0.1', { flags: 'udp', payload: text('datagram') }),
		'IPv4 TCP in IPv6': flow(CLIENT4, '10.200.1.3', 'fc00::1', {}),
		'IPv4 UDP in IPv6': flow(CLIENT4, '10.200.1.3', 'fc00::1', { flags: 'udp' }),
		'IPv6 TCP in IPv6': flow(CLIENT6, 'fc00:1::1', 'fc00::1', {}),
		'IPv6 UDP in IPv6': flow(CLIENT6, 'fc00:1::1', 'fc00::1', { flags: 'udp', payload: text('x') }),
		'a SYN': flow(CLIENT4, '10.200.1.1', '10.0.0.1', { flags: TCP.syn }),
		'a reset of an unknown flow': flow(CLIENT4, '10.200.1.1', '10.0.0.1', { flags: TCP.rst, sourcePort: 999 }),
		'every bit of the type of service': flow(CLIENT4, '10.200.1.1', '10.0.0.1', { tos: 0xff }),
		'every bit of the traffic class': flow(CLIENT6, 'fc00:1::1', 'fc00::1', { tos: 0xff }),
		'a type of service into a traffic class': flow(CLIENT4, '10.200.1.3', 'fc00::1', { tos: 0x8d }),
		'a hop limit of 1, which is the backend’s to judge': flow(CLIENT4, '10.200.1.1', '10.0.0.1', { ttl: 1 }),
		'a payload of odd length': flow(CLIENT4, '10.200.1.1', '10.0.0.1', { payload: text('odd') }),
		'"do not fragment" set': flow(CLIENT4, '10.200.1.1', '10.0.0.1', { fragment: 0x4000 }),
		'the largest frame': flow(CLIENT4, '10.200.1.1', '10.0.0.1', { payload: new Uint8Array(1514 - 54) }),
	};

	for (const [name, p] of Object.entries(packets)) {
		test(`wraps ${name}`, () => {
			const { verdict, out } = lb.run(flowFrame(p));
			assert.equal(verdict, 'tx');
			assert.equal(hex(out), hex(wrapped(flowIp(p), p.backend, { address: p.source, port: p.sourcePort }, GATEWAY_MAC)));
		});
	}

	test('writes the outer IPv4 header that is known for a datagram from 192.168.1.1:31337', () => {
		const { out } = lb.run(
			flowFrame(flow(CLIENT4, '10.200.1.1', '10.0.0.1', { flags: 'udp', payload: text('katran test pkt'), tos: 0x8d })),
		);
		assert.equal(hex(out.subarray(0, 12)), '0000deadbeaf020000000002');
		assert.equal(hex(out.subarray(14, 34)), '458d003f0000000040045ba2ac10687b0a000001');
	});

	test('writes the outer IPv6 header that is known for the same datagram', () => {
		const { out } = lb.run(
			flowFrame(flow(CLIENT4, '10.200.1.3', 'fc00::1', { flags: 'udp', payload: text('katran test pkt'), tos: 0x8d })),
		);
		assert.equal(hex(out.subarray(14, 38)), `68d00000002b0440${'01000000000000000000000'}0bac10101`);
	});

	test('keeps padding behind the packet and takes lengths from the IP header', () => {
		const p = flow(CLIENT4, '10.200.1.1', '10.0.0.1', {});
		const padding = Uint8Array.of(1, 2, 3, 4, 5, 6);
		const { out } = lb.run(concat(flowFrame(p), padding));
		const expected = wrapped(flowIp(p), p.backend, { address: p.source, port: p.sourcePort }, GATEWAY_MAC);
		assert.equal(hex(out), hex(concat(expected, padding)));
	});

	test('leaves the port out of the outer source of a vip that hashes no source port', () => {
		const p = flow(CLIENT4, '10.200.1.4', '10.0.0.1', {});
		assert.equal(hex(lb.run(flowFrame(p)).out), hex(wrapped(flowIp(p), p.backend, { address: p.source, port: 0 }, GATEWAY_MAC)));
	});

	test('leaves the client out of the outer source of a vip that hashes its destination port only, on misses and hits', () => {
		for (const p of [flow(CLIENT4, '10.200.1.5', '10.0.0.1', {}), flow(CLIENT6, 'fc00:1::5', 'fc00::1', {})]) {
			const nobody = address(p.source.includes(':') ? '::' : '0.0.0.0');
			const expected = hex(wrapped(flowIp(p), p.backend, { address: nobody, port: p.sourcePort }, GATEWAY_MAC));
			assert.equal(hex(lb.run(flowFrame(p)).out), expected);
			assert.equal(hex(lb.run(flowFrame(p)).out), expected);
		}
	});

	test('sends to another gateway as soon as the backends name it', () => {
		const p = flow(CLIENT4, '10.200.1.1', '10.0.0.1', {});
		const gateway = Uint8Array.of(2, 2, 2, 2, 2, 2);
		lb.backends.setGateway(gateway);
		const { out } = lb.run(flowFrame(p));
		lb.backends.setGateway(GATEWAY_MAC);
		assert.equal(hex(out.subarray(0, 6)), hex(gateway));
	});

	test('passes what is not IP, VLAN tags included', () => {
		const tagged = ethernet(ETHER_TYPE.vlan, concat(Uint8Array.of(0, 1, 8, 0), flowIp(flow(CLIENT4, '10.200.1.1', '10.0.0.1', {}))));
		for (const frame of [ethernet(ETHER_TYPE.arp, new Uint8Array(28)), tagged]) {
			const { verdict, out } = lb.run(frame);
			assert.equal(verdict, 'pass');
			assert.equal(hex(out), hex(frame));
		}
	});

	test('forwards frames of several buffers with the program that was made for them', () => {
		const jumbo = new LbInstance(loadNative(), { entry: 'lb_frags', options: { maxFrame: 9014 } });
		try {
			jumbo.setVips([{ address: '10.200.1.1', port: 80, pool: 1 }]);
			jumbo.setBackend(1, '10.0.0.1');
			jumbo.setRing(1, [1]);
			const p = flow(CLIENT4, '10.200.1.1', '10.0.0.1', { payload: new Uint8Array(8900).fill(7) });
			const { verdict, out } = jumbo.run(flowFrame(p));
			assert.equal(verdict, 'tx');
			assert.equal(hex(out), hex(wrapped(flowIp(p), p.backend, { address: p.source, port: p.sourcePort }, GATEWAY_MAC)));
			const longer = flow(CLIENT4, '10.200.1.1', '10.0.0.1', { payload: new Uint8Array(9014 - 54 + 1) });
			assert.equal(jumbo.run(flowFrame(longer)).verdict, 'tx', 'answered with too big');
			assert.equal(jumbo.counters.global().too_big_ipv4, 1n);
		} finally {
			jumbo.close();
		}
	});

	function flow(source: Address, dest: string, backend: string, more: Partial<FlowPacket>): FlowPacket & { readonly backend: Address } {
		return { source, dest: address(dest), sourcePort: 31337, destPort: 80, backend: address(backend), ...more };
	}
});
