// SPDX-License-Identifier: Apache-2.0
// TCP server ids: a segment that is no SYN and carries option 0xb7 goes to the server of the id in it, and the flow
// table learns that; all others take flow table and ring.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, suite, test } from 'node:test';
import { type Address, address } from '../../src/model/address.ts';
import { loadNative } from '../../src/native/binding.ts';
import { LbInstance, outerDestination } from '../support/lb-instance.ts';
import { type FlowPacket, flowFrame, patch, TCP } from '../support/packet-builder.ts';
import { whyNoBpf } from '../support/privileged.ts';
import { simulateFrames } from '../support/simulating.ts';

const RING = '10.0.0.1';
const NAMED = '10.0.0.2';
const VIP4 = address('10.200.1.1');
const VIP6 = address('fc00:1::1');
/** Kind, length, 1026 as x86 writes it. */
const ID_1026 = [0xb7, 6, 0x02, 0x04, 0, 0] as const;

/** A segment with these TCP options: they are the start of its payload until the data offset says otherwise. */
function segment(options: readonly number[], more: Partial<FlowPacket> = {}): Uint8Array {
	const padded = [...options, ...new Array<number>((4 - (options.length % 4)) % 4).fill(0)];
	const source = more.dest === VIP6 ? address('fc00:2::1') : address('192.168.1.1');
	const flow = { source, dest: VIP4, sourcePort: 31337, destPort: 80, flags: TCP.ack, payload: Uint8Array.from(padded), ...more };
	return patch(flowFrame(flow), 14 + (more.dest === VIP6 ? 40 : 20) + 12, (5 + padded.length / 4) << 4);
}

suite('TCP server ids', { skip: whyNoBpf() ?? false }, () => {
	let lb: LbInstance;

	beforeEach(() => {
		lb = new LbInstance(loadNative(), { options: { serverIds: true, tcpServerId: true } });
		lb.setVips([
			{ address: VIP4, port: 80, pool: 1 },
			{ address: VIP4, port: 81, pool: 1, flags: ['no_flow_table'] },
			{ address: VIP6, port: 80, pool: 2 },
		]);
		for (const [i, a] of [RING, NAMED, '10.0.0.3', 'fc00::1', 'fc00::2'].entries()) lb.setBackend(i + 1, a);
		lb.setRing(1, [1]);
		lb.setRing(2, [4]);
		lb.setServerId(1026, 2);
		lb.setServerId(7, 5);
	});
	afterEach(() => lb.close());

	function send(options: readonly number[], more: Partial<FlowPacket> = {}): Address | string {
		const { verdict, out, reason } = lb.run(segment(options, more));
		return verdict === 'tx' ? outerDestination(out) : (reason ?? verdict);
	}

	for (const [name, options] of Object.entries({
		'the only option': ID_1026,
		'behind padding and other options': [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, ...ID_1026],
		'the 15th option': [...new Array<number>(14).fill(1), ...ID_1026],
	})) {
		test(`follows an id that is ${name}`, () => assert.equal(send(options), NAMED));
	}

	for (const [name, options] of Object.entries({
		'no options': [],
		'another option': [0xb6, 6, 0x02, 0x04, 0, 0],
		'an option of another length': [0xb7, 7, 0x02, 0x04, 0, 0, 0],
		'id 0': [0xb7, 6, 0, 0, 0, 0],
		'an unknown id': [0xb7, 6, 9, 0, 0, 0],
		'an id behind the end of options': [0, 0, ...ID_1026],
		'the 16th option': [...new Array<number>(15).fill(1), ...ID_1026],
		'an option longer than the header': [8, 30, ...ID_1026],
		'options of length 0': [8, 0, ...ID_1026],
	})) {
		test(`takes the ring for ${name}`, () => assert.equal(send(options), RING));
	}

	test('takes the ring for a SYN, whatever it carries', () => assert.equal(send(ID_1026, { flags: TCP.syn }), RING));

	test('works alike over IPv6', () => assert.equal(send([0xb7, 6, 7, 0, 0, 0], { dest: VIP6 }), 'fc00::2'));

	test('teaches the flow table, unless the vip has none', () => {
		send([], { flags: TCP.syn });
		assert.equal(send(ID_1026), NAMED);
		assert.equal(send([]), NAMED);
		assert.equal(send(ID_1026, { destPort: 81 }), NAMED);
		assert.equal(send([], { destPort: 81 }), RING);
		assert.equal(lb.flowEntries().length, 1);
	});

	test('counts what segments said and what the flow table knew', () => {
		const counted = lb.counted(() => {
			send([], { flags: TCP.syn });
			send([]);
			send(ID_1026);
			send(ID_1026);
			send(ID_1026, { sourcePort: 4242 });
		});
		assert.deepEqual(counted, {
			tcp_id_syn: 1,
			tcp_id_ring: 1,
			tcp_id_routed: 3,
			tcp_id_flow_moved: 1,
			tcp_id_flow_same: 1,
			tcp_id_flow_new: 1,
		});
	});
});

test('a configured server id decides for TCP in a simulation, byte for byte', { skip: whyNoBpf() ?? false }, async () => {
	const config = {
		datapath: { gateway_mac: '00:00:de:ad:be:af', tcp_server_id: true, server_ids: [{ address: NAMED, ids: [1026] }] },
		sources: { static: { kind: 'file', path: 'services.yaml' } },
		pools: { web: { from: { source: 'static', service: 'web' } } },
		vips: [{ address: VIP4, port: 80, protocol: 'tcp', pool: 'web' }],
	};
	const frame = segment(ID_1026);
	const { lines, stderr } = await simulateFrames(config, { services: { web: [{ address: RING }] } }, [frame]);
	assert.equal(stderr, '');
	// Outer IPv4: length 20 + 48 = 0x44, source 172.16.(1^0x69).(1^0x7a); the checksum is 0x5c31 less 8.
	const outer = '450000440000000040045c29ac10687b0a000002';
	const expected = `0000deadbeaf0200000000020800${outer}${Buffer.from(frame.subarray(14)).toString('hex')}`;
	assert.equal(Buffer.from(lines[0]?.out ?? '', 'base64').toString('hex'), expected);
});
