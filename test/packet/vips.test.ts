// SPDX-License-Identifier: Apache-2.0
// Which packets are for a vip: exact port before port 0, by protocol, in tables that may be full and may be exchanged
// under traffic.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, suite, test } from 'node:test';
import { address } from '../../src/model/address.ts';
import { loadNative } from '../../src/native/binding.ts';
import { LbInstance, type LbVip, outerDestination } from '../support/lb-instance.ts';
import { flowFrame, icmp, TCP } from '../support/packet-builder.ts';
import { whyNoBpf } from '../support/privileged.ts';

suite('vips', { skip: whyNoBpf() ?? false }, () => {
	let lb: LbInstance;

	beforeEach(() => {
		lb = new LbInstance(loadNative());
		for (let id = 1; id <= 4; id++) {
			lb.setBackend(id, `fc00::${id}`);
			lb.setRing(id, [id]);
		}
	});
	afterEach(() => lb.close());

	/** The pool that took a packet, or the verdict; pool n has one backend, fc00::n. */
	function pool(dest: string, destPort: number, flags: number | 'udp' = TCP.ack): number | string {
		const source = address(dest.includes(':') ? 'fc00:2::1' : '192.168.1.1');
		const { verdict, out } = lb.run(flowFrame({ source, dest: address(dest), sourcePort: 1, destPort, flags }));
		return verdict === 'tx' ? Number(outerDestination(out).slice(-1)) : verdict;
	}

	for (const [family, a] of Object.entries({ IPv4: '10.200.1.1', IPv6: 'fc00:1::1' })) {
		test(`prefers the exact port to port 0 (${family})`, () => {
			lb.setVips([
				{ address: a, port: 0, pool: 1 },
				{ address: a, port: 443, pool: 2 },
			]);
			assert.equal(pool(a, 443), 2);
			assert.equal(pool(a, 80), 1);
			assert.equal(pool(a, 0), 1);
		});

		test(`tells protocols apart (${family})`, () => {
			lb.setVips([
				{ address: a, port: 443, pool: 1 },
				{ address: a, port: 443, protocol: 'udp', pool: 2 },
				{ address: a, port: 0, protocol: 'udp', pool: 3 },
			]);
			assert.equal(pool(a, 443), 1);
			assert.equal(pool(a, 443, 'udp'), 2);
			assert.equal(pool(a, 53, 'udp'), 3);
			assert.equal(pool(a, 53), 'pass');
		});

		test(`takes a vip away and another on within one change (${family})`, () => {
			lb.setVips([{ address: a, port: 80, pool: 1 }]);
			lb.setVips([{ address: a, port: 81, pool: 2 }]);
			assert.equal(pool(a, 80), 'pass');
			assert.equal(pool(a, 81), 2);
			lb.setVips([]);
			assert.equal(pool(a, 81), 'pass');
		});
	}

	test('finds every one of as many vips as fit, and nothing beside them', () => {
		const vips: LbVip[] = [];
		for (let i = 0; i < 32; i++) {
			vips.push({ address: `10.200.${i}.1`, port: i % 3 ? 80 : 0, pool: 1 + (i % 4) });
			vips.push({ address: `fc00:${i + 1}::1`, port: i % 3 ? 80 : 0, pool: 1 + (i % 4) });
		}
		lb.setVips(vips);
		for (const [i, vip] of vips.entries()) {
			assert.equal(pool(vip.address, 80), vip.pool, vip.address);
			assert.equal(pool(vip.address.replace(/1$/, '2'), 80), 'pass');
			assert.equal(pool(vip.address, 81), vip.port === 0 ? vip.pool : 'pass', `${i}`);
		}
	});

	test('knows the address of a vip whose port and protocol are others', () => {
		lb.setVips([{ address: '10.200.1.1', port: 80, protocol: 'udp', pool: 1 }]);
		const echo = (dest: string) => lb.run(icmp(address('192.168.1.1'), address(dest), { type: 8 })).verdict;
		assert.equal(echo('10.200.1.1'), 'tx');
		assert.equal(echo('10.200.1.2'), 'pass');
	});

	test('passes everything while there is no vip', () => {
		assert.equal(pool('10.200.1.1', 80), 'pass');
		assert.equal(pool('0.0.0.0', 0), 'pass');
		assert.equal(pool('fc00:1::1', 80), 'pass');
		assert.equal(pool('::', 0), 'pass');
	});

	test('gives a packet to the host when vip and backend are local', () => {
		const local = { address: '10.200.1.1', port: 80, pool: 1, flags: ['local'] } as const;
		const usual = { address: '10.200.1.2', port: 80, pool: 1 };
		lb.setVips([local, usual]);
		lb.setBackend(1, 'fc00::1', 'active', true);
		const counted = lb.counted(() => {
			assert.equal(pool('10.200.1.1', 80), 'pass');
			assert.equal(pool('10.200.1.2', 80), 1);
		});
		assert.deepEqual(counted, { local: 1, pass: 1, pass_bytes: 54 });
		assert.equal(lb.counters.vip(lb.vipNumber(local)).packets, 1n);
	});

	test('counts packets and IP bytes for each vip and backend, and packets that took the ring', () => {
		const vips: LbVip[] = [
			{ address: '10.200.1.1', port: 80, pool: 1 },
			{ address: 'fc00:1::1', port: 80, pool: 2 },
		];
		lb.setVips(vips);
		for (const flags of [TCP.syn, TCP.ack, TCP.ack, TCP.syn]) pool('10.200.1.1', 80, flags);
		pool('fc00:1::1', 80);
		assert.deepEqual(lb.counters.vip(1), { packets: 4n, bytes: 160n, newFlows: 2n });
		assert.deepEqual(lb.counters.vip(2), { packets: 1n, bytes: 20n, newFlows: 1n }, 'IPv6 counts its payload length');
		assert.deepEqual(lb.counters.backend(1), { packets: 4n, bytes: 160n });
		assert.deepEqual(lb.counters.backend(2), { packets: 1n, bytes: 20n });
		assert.deepEqual(lb.counters.backend(3), { packets: 0n, bytes: 0n });
	});
});
