// SPDX-License-Identifier: Apache-2.0
// Every drop reason can happen, and is counted under its name: this table has a frame for each of `enum lb_drop`.
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { LB_DROP_NAMES } from '../../src/datapath/abi.gen.ts';
import { address } from '../../src/model/address.ts';
import { loadNative } from '../../src/native/binding.ts';
import { LbInstance, type LbSettings, VERDICTS } from '../support/lb-instance.ts';
import { type FlowPacket, flowFrame, icmp, ip, ipFrame, PROTOCOL, transport } from '../support/packet-builder.ts';
import { whyNoBpf } from '../support/privileged.ts';
import { TailCaller } from '../support/tail-caller.ts';

interface Case {
	/** The options under which the reason can happen, where the usual ones don't do. */
	readonly settings?: LbSettings;
	/** Breaks what must be broken. */
	readonly arrange?: (lb: LbInstance) => void;
	readonly frame: Uint8Array;
	/** Runs the frame with no room before it. */
	readonly tight?: boolean;
}

const VIP4 = address('10.200.1.1');
const VIP6 = address('fc00:1::1');
const QUIC_VIP = address('10.200.1.2');
const CLIENT4 = address('192.168.1.1');
const CLIENT6 = address('fc00:2::1');

function flow(more: Partial<FlowPacket> = {}): FlowPacket {
	return { source: CLIENT4, dest: VIP4, sourcePort: 31337, destPort: 80, ...more };
}

const QUIC_V2_ID_7 = Uint8Array.of(0x40, 0x80, 0, 0, 7, 0, 0, 0, 0);
const tcp = transport(flow());

const GUE: LbSettings = {
	options: { gue: { port: 6080, source4: address('10.0.13.37'), source6: address('fc00:2307::1337'), checksum: 'katran' } },
};

function sendsGue(lb: LbInstance): void {
	lb.setBackend(3, '10.0.0.3', 'active', false, 'gue');
	lb.setBackend(4, 'fc00::3', 'active', false, 'gue');
	lb.setRing(1, [3]);
	lb.setRing(2, [4]);
}

const CASES: Record<(typeof LB_DROP_NAMES)[number], readonly Case[]> = {
	truncated: [{ frame: ipFrame(ip(CLIENT4, VIP4, PROTOCOL.tcp, tcp.subarray(0, 8))) }],
	ip_options: [{ frame: ipFrame(ip(CLIENT4, VIP4, PROTOCOL.tcp, tcp, { options: new Uint8Array(8) })) }],
	fragment: [{ frame: ipFrame(ip(CLIENT4, VIP4, PROTOCOL.tcp, tcp, { fragment: 0x2000 })) }],
	too_big: [{ settings: { options: { tooBig: 'drop' } }, frame: flowFrame(flow({ payload: new Uint8Array(1500) })) }],
	icmp_quote: [{ frame: icmp(CLIENT4, VIP4, { type: 3 }) }],
	pool_empty: [
		{ arrange: (lb) => lb.maps.rings.delete(Uint8Array.of(1, 0, 0, 0)), frame: flowFrame(flow()) },
		{ arrange: (lb) => lb.setRing(1, [], () => 0), frame: flowFrame(flow()) },
	],
	ring_invalid: [
		{ arrange: (lb) => lb.setRing(1, [1], () => 1), frame: flowFrame(flow()) },
		{ arrange: (lb) => lb.setRing(1, [1], () => 64, 65535), frame: flowFrame(flow()) },
	],
	backend_free: [
		{ arrange: (lb) => lb.setRing(1, [9]), frame: flowFrame(flow()) },
		{ arrange: (lb) => lb.setRing(1, [0xffffff]), frame: flowFrame(flow()) },
	],
	backend_self: [{ settings: { options: { ownAddresses: [address('10.0.0.1')] } }, frame: flowFrame(flow()) }],
	backend_family: [{ arrange: (lb) => lb.setRing(2, [1]), frame: flowFrame(flow({ source: CLIENT6, dest: VIP6 })) }],
	quic_backend: [
		{ arrange: (lb) => lb.setServerId(7, 9), frame: flowFrame(flow({ dest: QUIC_VIP, flags: 'udp', payload: QUIC_V2_ID_7 })) },
	],
	headroom_ipv4: [
		{ frame: flowFrame(flow()), tight: true },
		{ settings: GUE, arrange: sendsGue, frame: flowFrame(flow()), tight: true },
	],
	headroom_ipv6: [
		{ frame: flowFrame(flow({ source: CLIENT6, dest: VIP6 })), tight: true },
		{ arrange: (lb) => lb.setRing(1, [2]), frame: flowFrame(flow()), tight: true },
		{ settings: GUE, arrange: sendsGue, frame: flowFrame(flow({ source: CLIENT6, dest: VIP6 })), tight: true },
	],
	reply_headroom: [{ settings: { options: { maxFrame: 120 } }, frame: flowFrame(flow({ payload: new Uint8Array(90) })), tight: true }],
	internal: [{ settings: { config: { flowBuckets: 1 << 30 } }, frame: flowFrame(flow()) }],
	gue_source: [
		{ arrange: sendsGue, frame: flowFrame(flow()) },
		{ arrange: sendsGue, frame: flowFrame(flow({ source: CLIENT6, dest: VIP6 })) },
	],
	decap_ttl: [
		{
			settings: { options: { decap: { ipip: true, gue: false, strict: false, destinations: [], egress: [] } } },
			frame: ipFrame(ip(CLIENT4, VIP4, PROTOCOL.ipip, ip(CLIENT4, VIP4, PROTOCOL.tcp, tcp, { ttl: 1 }))),
		},
	],
};

suite('drops', { skip: whyNoBpf() ?? false }, () => {
	let tail: TailCaller;
	before(() => {
		tail = new TailCaller(loadNative());
	});
	after(() => tail.close());

	for (const [reason, cases] of Object.entries(CASES)) {
		for (const [i, c] of cases.entries()) {
			test(`counts ${reason} once, with the bytes of the frame${cases.length > 1 ? ` (${i + 1})` : ''}`, () => {
				const lb = arranged(c);
				try {
					const counted = lb.counted(() => assert.equal(runOn(lb, c), 'drop'));
					assert.equal(counted[`drop ${reason}`], 1);
					assert.equal(counted.drop_bytes, c.frame.length);
					assert.equal(Object.keys(counted).filter((name) => name.startsWith('drop ')).length, 1);
				} finally {
					lb.close();
				}
			});
		}
	}

	test('have a case for every reason', () => assert.deepEqual(Object.keys(CASES), [...LB_DROP_NAMES]));

	function runOn(lb: LbInstance, c: Case): string {
		if (!c.tight) return lb.run(c.frame).verdict;
		tail.setTarget(lb.program);
		return VERDICTS[tail.program('tight').testRun(c.frame).verdict] ?? '';
	}

	function arranged(c: Case): LbInstance {
		const options = { serverIds: true, ...c.settings?.options };
		const lb = new LbInstance(loadNative(), { ...c.settings, options });
		lb.setVips([
			{ address: VIP4, port: 80, pool: 1 },
			{ address: VIP6, port: 80, pool: 2 },
			{ address: QUIC_VIP, port: 80, protocol: 'udp', pool: 1, flags: ['quic'] },
		]);
		lb.setBackend(1, '10.0.0.1');
		lb.setBackend(2, 'fc00::1');
		lb.setRing(1, [1]);
		lb.setRing(2, [2]);
		c.arrange?.(lb);
		return lb;
	}
});
