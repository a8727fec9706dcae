// SPDX-License-Identifier: Apache-2.0
// Tunnels that end at the balancer: what comes out is balanced, sent back, or left to the host; strict leaves foreign
// tunnels alone; and nothing lives longer than its inner TTL.
import assert from 'node:assert/strict';
import { afterEach, suite, test } from 'node:test';
import type { DecapOptions } from '../../src/datapath/options.ts';
import { type Address, address } from '../../src/model/address.ts';
import { loadNative } from '../../src/native/binding.ts';
import { GATEWAY_MAC, LbInstance } from '../support/lb-instance.ts';
import { wrapped } from '../support/outer-model.ts';
import {
	BALANCER_MAC,
	concat,
	type FlowPacket,
	flowIp,
	hex,
	ip,
	ipFrame,
	PROTOCOL,
	patch,
	ROUTER_MAC,
	words,
} from '../support/packet-builder.ts';
import { whyNoBpf } from '../support/privileged.ts';

const GUE_PORT = 9886;
const SENDER = { 4: address('10.9.9.9'), 6: address('fc00:9::9') };
const OWN = { 4: address('10.0.13.37'), 6: address('fc00:2307::1337') };
const LISTED = { 4: address('10.14.4.1'), 6: address('fc00:1404::1') };
const EGRESS = { 4: address('10.14.5.1'), 6: address('fc00:1405::1') };
const STRANGER = { 4: address('10.77.0.1'), 6: address('fc00:77::1') };
const BACKEND = { 4: address('10.0.0.1'), 6: address('fc00::1') };
const FLOW = {
	4: { source: address('192.168.1.1'), dest: address('10.200.1.1'), sourcePort: 31337, destPort: 80 },
	6: { source: address('fc00:2::1'), dest: address('fc00:1::1'), sourcePort: 31337, destPort: 80 },
} as const;
const ON: DecapOptions = {
	ipip: true,
	gue: true,
	strict: true,
	destinations: [LISTED[4], LISTED[6]],
	egress: [EGRESS[4], EGRESS[6]],
};
type Family = 4 | 6;
const KINDS = [
	['gue', 4, 4],
	['gue', 6, 4],
	['gue', 6, 6],
	['gue', 4, 6],
	['ipip', 4, 4],
	['ipip', 6, 4],
	['ipip', 6, 6],
	['ipip', 4, 6],
] as const;

suite('decapsulation on the balancer', { skip: whyNoBpf() ?? false }, () => {
	let lb: LbInstance;
	afterEach(() => lb.close());

	function start(decap: Partial<DecapOptions> = {}, entry: 'lb' | 'lb_frags' = 'lb'): void {
		const gue = { port: GUE_PORT, source4: OWN[4], source6: OWN[6], checksum: 'katran' } as const;
		lb = new LbInstance(loadNative(), { entry, options: { gue, decap: { ...ON, ...decap } } });
		lb.setVips([
			{ address: FLOW[4].dest, port: 80, pool: 1 },
			{ address: FLOW[6].dest, port: 80, pool: 2 },
		]);
		lb.setBackend(1, BACKEND[4]);
		lb.setBackend(2, BACKEND[6]);
		lb.setRing(1, [1]);
		lb.setRing(2, [2]);
	}

	/** `packet` in a tunnel from SENDER to `dest`. */
	function tunnel(kind: 'gue' | 'ipip', dest: Address, family: Family, packet: Uint8Array): Uint8Array {
		const inner6 = (packet[0] ?? 0) >> 4 === 6;
		if (kind === 'ipip') return ipFrame(ip(SENDER[family], dest, inner6 ? PROTOCOL.ipv6 : PROTOCOL.ipip, packet));
		return ipFrame(ip(SENDER[family], dest, PROTOCOL.udp, concat(words(0x1234, GUE_PORT, 8 + packet.length, 0), packet)));
	}

	/** The packet with so much left of its TTL; its header checksum is made anew. */
	function aged(flow: FlowPacket, ttl: number): Uint8Array {
		return flowIp({ ...flow, ttl });
	}

	for (const entry of ['lb', 'lb_frags'] as const) {
		for (const [kind, outer, inner] of KINDS) {
			test(`${entry}: ${kind}, IPv${inner} in IPv${outer}, to a destination of ours is balanced with one hop less`, () => {
				start({}, entry);
				const flow = FLOW[inner];
				const expected = wrapped(aged(flow, 63), BACKEND[inner], { address: flow.source, port: flow.sourcePort }, GATEWAY_MAC);
				const counted = lb.counted(() => {
					const { verdict, out } = lb.run(tunnel(kind, LISTED[outer], outer, flowIp(flow)));
					assert.deepEqual([verdict, hex(out)], ['tx', hex(expected)]);
				});
				assert.deepEqual(counted, { [`decap_ipv${inner}`]: 1, decap_balanced: 1 });
			});
		}
	}

	test('what comes out and is for no vip passes to the host, unwrapped', () => {
		start();
		const flow = { ...FLOW[4], dest: address('10.1.2.3') };
		const { verdict, out } = lb.run(tunnel('gue', LISTED[6], 6, flowIp(flow)));
		assert.deepEqual([verdict, hex(out)], ['pass', hex(ipFrame(aged(flow, 63)))]);
	});

	test('GUE to an egress destination goes back to the router that sent it, unwrapped', () => {
		start();
		for (const [outer, inner] of [
			[4, 4],
			[6, 4],
			[6, 6],
		] as const) {
			const { verdict, out } = lb.run(tunnel('gue', EGRESS[outer], outer, flowIp(FLOW[inner])));
			const unwrapped = ipFrame(aged(FLOW[inner], 63));
			const expected = concat(ROUTER_MAC, BALANCER_MAC, unwrapped.subarray(12));
			assert.deepEqual([verdict, hex(out)], ['tx', hex(expected)]);
		}
	});

	test('IPIP to an egress destination is balanced, as in Katran', () => {
		start();
		const counted = lb.counted(() => assert.equal(lb.run(tunnel('ipip', EGRESS[6], 6, flowIp(FLOW[6]))).verdict, 'tx'));
		assert.deepEqual(counted, { decap_ipv6: 1, decap_balanced: 1 });
	});

	test('strict: a tunnel for somebody else passes untouched, one for our own address is unwrapped for the host', () => {
		start();
		for (const [kind, outer, inner] of KINDS) {
			const foreign = tunnel(kind, STRANGER[outer], outer, flowIp(FLOW[inner]));
			const { verdict, out } = lb.run(foreign);
			assert.deepEqual([verdict, hex(out)], ['pass', hex(foreign)]);
			const own = lb.run(tunnel(kind, OWN[outer], outer, flowIp(FLOW[inner])));
			assert.deepEqual([own.verdict, hex(own.out)], ['pass', hex(ipFrame(aged(FLOW[inner], 63)))]);
		}
	});

	test('not strict: a tunnel for any address is unwrapped and left to the host, never balanced', () => {
		start({ strict: false });
		for (const [kind, outer, inner] of KINDS) {
			const { verdict, out } = lb.run(tunnel(kind, STRANGER[outer], outer, flowIp(FLOW[inner])));
			assert.deepEqual([verdict, hex(out)], ['pass', hex(ipFrame(aged(FLOW[inner], 63)))]);
		}
	});

	test('the inner TTL ends a packet: 0 and 1 are dropped, 2 goes on; so no loop through us lives for ever', () => {
		start();
		for (const inner of [4, 6] as const) {
			for (const ttl of [0, 1]) {
				const { verdict, reason } = lb.run(tunnel('gue', LISTED[6], 6, aged(FLOW[inner], ttl)));
				assert.deepEqual([verdict, reason], ['drop', 'decap_ttl']);
			}
			assert.equal(lb.run(tunnel('gue', LISTED[6], 6, aged(FLOW[inner], 2))).verdict, 'tx');
		}
	});

	test('one outer header is taken off, never two', () => {
		start();
		const twice = tunnel('gue', LISTED[6], 6, tunnel('gue', LISTED[6], 6, flowIp(FLOW[4])).subarray(14));
		const { verdict, out } = lb.run(twice);
		assert.equal(verdict, 'pass');
		assert.equal(out.length, twice.length - 48);
	});

	test('only the kind that is on is unwrapped', () => {
		for (const [off, kind] of [
			[{ gue: false }, 'gue'],
			[{ ipip: false }, 'ipip'],
		] as const) {
			start(off);
			const frame = tunnel(kind, LISTED[4], 4, flowIp(FLOW[4]));
			const { verdict, out } = lb.run(frame);
			assert.deepEqual([verdict, hex(out)], ['pass', hex(frame)]);
			lb.close();
		}
		start({ gue: false, ipip: false });
	});

	test('another port, GUE of another variant, options and fragments are no tunnels of ours', () => {
		start();
		const frame = tunnel('gue', LISTED[4], 4, flowIp(FLOW[4]));
		const udp = concat(words(1, GUE_PORT, 8 + 40, 0), flowIp(FLOW[4]));
		for (const other of [
			patch(frame, 14 + 20 + 2, 0, 53),
			patch(frame, 14 + 20 + 8, 0x05),
			ipFrame(ip(SENDER[4], LISTED[4], PROTOCOL.udp, udp, { options: new Uint8Array(4) })),
			ipFrame(ip(SENDER[4], LISTED[4], PROTOCOL.udp, udp, { fragment: 0x2000 })),
		]) {
			const { verdict, out } = lb.run(other);
			assert.deepEqual([verdict, hex(out)], ['pass', hex(other)]);
		}
	});

	test('every truncation of a tunnel packet has a verdict, and a short inner header is dropped by name', () => {
		start();
		for (const [kind, outer, inner] of KINDS) {
			const frame = tunnel(kind, LISTED[outer], outer, flowIp(FLOW[inner]));
			for (let n = 14; n < frame.length; n++) {
				const { verdict, reason } = lb.run(frame.subarray(0, n));
				assert.ok(verdict === 'pass' || (verdict === 'drop' && reason === 'truncated'), `${kind} ${n}: ${verdict} ${reason}`);
			}
		}
	});

	test('off, a tunnel packet is like any other', () => {
		start({ ipip: false, gue: false });
		for (const [kind, outer, inner] of KINDS) {
			const frame = tunnel(kind, LISTED[outer], outer, flowIp(FLOW[inner]));
			assert.deepEqual([lb.run(frame).verdict, hex(lb.run(frame).out)], ['pass', hex(frame)]);
		}
	});
});
