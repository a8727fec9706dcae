// SPDX-License-Identifier: Apache-2.0
// Which ring slot a flow takes: Katran's, so that boxes of both kinds can share one ECMP group. The known slots come
// from runs of Katran's own program; the rest is compared with src/ring/flow-hash.ts, written independently.
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { type Address, address, addressBytes, familyOf } from '../../src/model/address.ts';
import type { VipFlag } from '../../src/model/vip.ts';
import { loadNative } from '../../src/native/binding.ts';
import { flowSlot, KATRAN_SEEDS } from '../../src/ring/flow-hash.ts';
import { LbInstance, type LbSettings, SMALL } from '../support/lb-instance.ts';
import { flowFrame, hex, TCP } from '../support/packet-builder.ts';
import { whyNoBpf } from '../support/privileged.ts';

const SPREAD = 257;
/** Enough backends to tell all slots of a ring apart by two looks. */
const OPTIONS = { limits: { ...SMALL.limits, maxBackendsPerPool: SPREAD, maxBackends: SPREAD + 1 } };

/**
 * An instance that shows slots: ring 1 holds the low byte of the slot, ring 2 the rest. The vips are pairs of one port
 * each; addresses differ, which the hash ignores.
 */
class SlotReader {
	readonly lb: LbInstance;

	constructor(settings: LbSettings = {}) {
		this.lb = new LbInstance(loadNative(), { ...settings, options: { ...OPTIONS, ...settings.options } });
		const ids = Array.from({ length: SPREAD }, (_, i) => i + 1);
		for (const id of ids) this.lb.setBackend(id, `fc00::${id.toString(16)}`);
		this.lb.setRing(1, ids, (slot) => slot & 255);
		this.lb.setRing(2, ids, (slot) => slot >> 8);
	}

	/** The slot of a flow to a vip of this port and these flags. */
	slot(source: Address, sourcePort: number, destPort: number, vipPort: number, flags: readonly VipFlag[] = []): number {
		const vips = familyOf(source) === 4 ? ['10.200.1.1', '10.200.1.2'] : ['fc00:1::1', 'fc00:1::2'];
		this.lb.setVips(vips.map((a, i) => ({ address: a, port: vipPort, pool: i + 1, flags: [...flags, 'no_flow_table'] })));
		const [low = 0, high = 0] = vips.map((a) => this.#backend(flowFrame({ source, dest: address(a), sourcePort, destPort })));
		return high * 256 + low;
	}

	#backend(frame: Uint8Array): number {
		const { out, verdict, reason } = this.lb.run(frame);
		assert.equal(verdict, 'tx', reason ?? '');
		return ((out[52] ?? 0) << 8) + (out[53] ?? 0) - 1;
	}
}

const KNOWN = [
	{ what: 'exact port', source: '192.168.1.1', sourcePort: 31337, destPort: 80, vipPort: 80, flags: [], slot: 48717 },
	{ what: 'port 0', source: '192.168.1.1', sourcePort: 31337, destPort: 4242, vipPort: 0, flags: [], slot: 39962 },
	{
		what: 'no source port',
		source: '192.168.1.1',
		sourcePort: 31337,
		destPort: 80,
		vipPort: 80,
		flags: ['hash_no_source_port'],
		slot: 48171,
	},
	{ what: 'another client', source: '192.168.1.42', sourcePort: 31337, destPort: 443, vipPort: 443, flags: [], slot: 6078 },
	{ what: 'another port', source: '10.1.2.3', sourcePort: 12345, destPort: 8080, vipPort: 8080, flags: [], slot: 50733 },
	{
		what: 'destination port only',
		source: '1.2.3.4',
		sourcePort: 9,
		destPort: 42,
		vipPort: 0,
		flags: ['hash_dest_port_only'],
		slot: 46348,
	},
	{ what: 'IPv6', source: 'fc00:2::1', sourcePort: 31337, destPort: 80, vipPort: 80, flags: [], slot: 37505 },
	{ what: 'IPv6, port 0', source: 'fc00:2::1', sourcePort: 31337, destPort: 80, vipPort: 0, flags: [], slot: 56502 },
	{ what: 'another IPv6 client', source: 'fc00:2::42', sourcePort: 31337, destPort: 443, vipPort: 443, flags: [], slot: 42990 },
	{ what: 'a full IPv6 address', source: '2001:db8::1', sourcePort: 12345, destPort: 443, vipPort: 443, flags: [], slot: 49443 },
	{
		what: 'IPv6, destination port only',
		source: 'fc00:2::1',
		sourcePort: 9,
		destPort: 443,
		vipPort: 0,
		flags: ['hash_dest_port_only'],
		slot: 24333,
	},
] as const;

suite('ring slot of a flow', { skip: whyNoBpf() ?? false }, () => {
	test('is the known one', async (t) => {
		const reader = new SlotReader();
		for (const k of KNOWN) {
			await t.test(k.what, () => assert.equal(reader.slot(address(k.source), k.sourcePort, k.destPort, k.vipPort, k.flags), k.slot));
		}
		reader.lb.close();
	});

	test('keeps the destination port of a port-0 vip with hash_source_dest_port', () => {
		const reader = new SlotReader();
		assert.equal(reader.slot(address('192.168.1.1'), 31337, 80, 0, ['hash_source_dest_port']), 48717);
		reader.lb.close();
	});

	test('ignores the source port even before hash_dest_port_only puts the destination port in its place', () => {
		const reader = new SlotReader();
		assert.equal(reader.slot(address('1.2.3.4'), 77, 42, 0, ['hash_no_source_port', 'hash_dest_port_only']), 46348);
		reader.lb.close();
	});

	test('agrees with the reference for many flows, other ring sizes and other seeds', () => {
		for (const [ringSize, seeds] of [
			[65537, KATRAN_SEEDS],
			[65537, { flow: 0xdecafbad, address6: 0x12345678 }],
			[251, { flow: 512 * 251, address6: 512 }],
			[65521, { flow: 0xffffffff, address6: 1 }],
		] as const) {
			const limits = { ...OPTIONS.limits, ringSize };
			const reader = new SlotReader({ options: { limits }, config: { hashSeed: seeds.flow, hashSeed6: seeds.address6 } });
			for (let i = 1; i <= 150; i++) {
				const source = address(
					i % 2 ? `${i}.${255 - i}.${(i * 7) % 256}.${(i * 31) % 256}` : `2001:db8:${i}:${i * 40}::${(i * 419).toString(16)}`,
				);
				const input = { source: addressBytes(source), sourcePort: (i * 7919) % 65536, destPort: 80 };
				assert.equal(reader.slot(source, input.sourcePort, 80, 80), flowSlot(input, ringSize, seeds), `${source} of ${ringSize}`);
			}
			reader.lb.close();
		}
	});

	test('does not depend on TCP flags', () => {
		const reader = new SlotReader();
		const slot = reader.slot(address('192.168.1.1'), 31337, 80, 80);
		const runs = [TCP.ack, TCP.syn, TCP.rst, 0xff].map((flags) => {
			const dest = address('10.200.1.1');
			return hex(
				reader.lb.run(flowFrame({ source: address('192.168.1.1'), dest, sourcePort: 31337, destPort: 80, flags })).out.subarray(14, 54),
			);
		});
		assert.equal(slot, 48717);
		assert.equal(new Set(runs).size, 1);
		reader.lb.close();
	});
});
