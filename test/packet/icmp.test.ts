// SPDX-License-Identifier: Apache-2.0
// ICMP for addresses of vips: echo requests are answered by the balancer, errors reach the backend whose flow they
// quote, and packets that are too long for encapsulation are answered with "too big".
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { type Address, address } from '../../src/model/address.ts';
import { loadNative } from '../../src/native/binding.ts';
import { GATEWAY_MAC, LbInstance, outerDestination } from '../support/lb-instance.ts';
import { wrapped } from '../support/outer-model.ts';
import {
	BALANCER_MAC,
	checksum,
	concat,
	type FlowPacket,
	flowFrame,
	flowIp,
	hex,
	icmp,
	ip,
	PROTOCOL,
	ROUTER_MAC,
	TCP,
	words,
} from '../support/packet-builder.ts';
import { whyNoBpf } from '../support/privileged.ts';

const VIP4 = address('10.200.1.1');
const VIP6 = address('fc00:1::1');
const CLIENT4 = address('192.168.1.1');
const CLIENT6 = address('fc00:2::1');
const ROUTER4 = address('172.20.0.1');
const ROUTER6 = address('fc00:99::1');
const BACKENDS = 3;

suite('ICMP', { skip: whyNoBpf() ?? false }, () => {
	let lb: LbInstance;

	before(() => {
		lb = new LbInstance(loadNative());
		lb.setVips([
			{ address: VIP4, port: 80, pool: 1 },
			{ address: VIP4, port: 80, protocol: 'udp', pool: 1 },
			{ address: VIP6, port: 80, pool: 2 },
			{ address: VIP6, port: 80, protocol: 'udp', pool: 2 },
		]);
		for (let i = 1; i <= BACKENDS; i++) {
			lb.setBackend(i, `10.0.0.${i}`);
			lb.setBackend(BACKENDS + i, `fc00::${i}`);
		}
		lb.setRing(1, [1, 2, 3]);
		lb.setRing(2, [4, 5, 6]);
	});
	after(() => lb.close());

	for (const [family, client, vip, ask, answer] of [
		['IPv4', CLIENT4, VIP4, 8, 0],
		['IPv6', CLIENT6, VIP6, 128, 129],
	] as const) {
		test(`answers ${family} echo requests, back to the router that sent them`, () => {
			const message = { rest: words(0x1234, 1), payload: Uint8Array.from(Buffer.from('some payload')) };
			const sent = icmp(client, vip, { type: ask, ...message }, { ttl: 7, tos: 0x8d });
			const expected = icmp(vip, client, { type: answer, ...message }, { ttl: 64, tos: 0x8d });
			expected.set(ROUTER_MAC, 0);
			expected.set(BALANCER_MAC, 6);
			const run = lb.run(sent);
			assert.equal(run.verdict, 'tx');
			assert.equal(hex(run.out), hex(expected));
		});

		test(`answers ${family} echo requests with a checksum that receivers accept, whatever the sum`, () => {
			for (const identifier of [0, 1, 0x0007, 0x0008, 0x00ff, 0x0100, 0xf7fe, 0xf7ff, 0xf800, 0xfeff, 0xfffe, 0xffff]) {
				for (const sequence of [0, 1, 0x07ff, 0x0800, 0xff00, 0xfffe, 0xffff]) {
					const { out } = lb.run(icmp(client, vip, { type: ask, rest: words(identifier, sequence) }));
					assert.equal(icmpSum(out), 0, `identifier ${identifier}, sequence ${sequence}`);
				}
			}
		});
	}

	const flows: Record<string, FlowPacket & { readonly router: Address }> = {
		'IPv4 TCP': { source: CLIENT4, dest: VIP4, sourcePort: 31337, destPort: 80, router: ROUTER4 },
		'IPv4 UDP': { source: CLIENT4, dest: VIP4, sourcePort: 31337, destPort: 80, flags: 'udp', router: ROUTER4 },
		'IPv6 TCP': { source: CLIENT6, dest: VIP6, sourcePort: 31337, destPort: 80, router: ROUTER6 },
		'IPv6 UDP': { source: CLIENT6, dest: VIP6, sourcePort: 31337, destPort: 80, flags: 'udp', router: ROUTER6 },
	};

	/** The packet that a backend had sent to the client. */
	function reversed(flow: FlowPacket): FlowPacket {
		return { ...flow, source: flow.dest, dest: flow.source, sourcePort: flow.destPort, destPort: flow.sourcePort };
	}

	for (const [name, flow] of Object.entries(flows)) {
		const type = name.startsWith('IPv4') ? 3 : 2;
		const headers = name.startsWith('IPv4') ? 20 : 40;

		test(`sends errors about ${name} to the flow's backend`, () => {
			for (let i = 0; i < 20; i++) {
				const one = { ...flow, sourcePort: 40000 + i };
				const backend = outerDestination(lb.run(flowFrame(one)).out);
				const error = icmp(flow.router, flow.dest, { type, code: 4 - type, payload: flowIp(reversed(one)) }, { tos: 0x20 });
				const { verdict, out } = lb.run(error);
				assert.equal(verdict, 'tx');
				assert.equal(hex(out), hex(wrapped(error.subarray(14), backend, { address: flow.source, port: one.sourcePort }, GATEWAY_MAC)));
			}
		});

		test(`needs no more of the quote than ${name} ports`, () => {
			const backend = outerDestination(lb.run(flowFrame(flow)).out);
			const quote = flowIp(reversed(flow)).subarray(0, headers + 8);
			const run = lb.run(icmp(flow.router, flow.dest, { type, payload: quote }));
			assert.equal(run.verdict, 'tx');
			assert.equal(outerDestination(run.out), backend);
		});
	}

	test('follows unreachables of both families, of any code', () => {
		for (const [flow, type] of [
			[flows['IPv4 TCP'], 3],
			[flows['IPv6 TCP'], 1],
		] as const) {
			assert.ok(flow);
			for (let code = 0; code < 16; code++) {
				assert.equal(lb.run(icmp(flow.router, flow.dest, { type, code, payload: flowIp(reversed(flow)) })).verdict, 'tx');
			}
		}
	});

	test('counts "too big" errors, and those with a path MTU below 1280', () => {
		const [v4, v6] = [flows['IPv4 TCP'], flows['IPv6 TCP']];
		assert.ok(v4 && v6);
		const counted = lb.counted(() => {
			for (const mtu of [1279, 1280, 1500]) {
				lb.run(icmp(ROUTER4, VIP4, { type: 3, code: 4, rest: words(0, mtu), payload: flowIp(reversed(v4)) }));
				lb.run(icmp(ROUTER6, VIP6, { type: 2, rest: words(0, mtu), payload: flowIp(reversed(v6)) }));
			}
			lb.run(icmp(ROUTER6, VIP6, { type: 2, rest: words(1, 0), payload: flowIp(reversed(v6)) }));
		});
		assert.deepEqual(counted, { icmp_ptb_ipv4: 3, icmp_ptb_ipv4_small: 1, icmp_ptb_ipv6: 4, icmp_ptb_ipv6_small: 1 });
	});

	test('passes errors that quote a flow of no vip', () => {
		const foreign = { ...reversed({ source: CLIENT4, dest: VIP4, sourcePort: 1, destPort: 81 }) };
		assert.equal(lb.run(icmp(ROUTER4, VIP4, { type: 3, payload: flowIp(foreign) })).verdict, 'pass');
	});

	suite('for packets that are too long', () => {
		const long = (source: Address, dest: Address, bytes: number) =>
			flowFrame({ source, dest, sourcePort: 31337, destPort: 80, payload: Uint8Array.from({ length: bytes }, (_, i) => i) });
		const HEAD4 = 14 + 20 + 20;
		const HEAD6 = 14 + 40 + 20;

		test('answers IPv4 with the packet’s head and the MTU that fits', () => {
			const sent = long(CLIENT4, VIP4, 1515 - HEAD4);
			const { verdict, out } = lb.run(sent);
			assert.equal(verdict, 'tx');
			const expected = icmp(VIP4, CLIENT4, { type: 3, code: 4, rest: words(0, 1500), payload: sent.subarray(14, 14 + 84) }, { id: 0 });
			expected.set(ROUTER_MAC, 0);
			expected.set(BALANCER_MAC, 6);
			assert.equal(hex(out), hex(expected));
		});

		test('answers IPv6 likewise', () => {
			const sent = long(CLIENT6, VIP6, 1515 - HEAD6);
			const { verdict, out } = lb.run(sent);
			assert.equal(verdict, 'tx');
			const expected = icmp(VIP6, CLIENT6, { type: 2, rest: words(0, 1500), payload: sent.subarray(14, 14 + 248) });
			expected.set(ROUTER_MAC, 0);
			expected.set(BALANCER_MAC, 6);
			assert.equal(hex(out), hex(expected));
		});

		test('forwards the longest frame that fits, and passes longer ones that are not for a vip', () => {
			assert.equal(outerDestination(lb.run(long(CLIENT4, VIP4, 1514 - HEAD4)).out).slice(0, 7), '10.0.0.');
			assert.equal(lb.run(long(CLIENT4, address('10.200.1.2'), 1515)).verdict, 'pass');
		});

		test('never answers an error with an error', () => {
			const quote = ip(VIP4, CLIENT4, PROTOCOL.tcp, concat(words(80, 31337), new Uint8Array(1500)));
			const run = lb.run(icmp(ROUTER4, VIP4, { type: 3, payload: quote }));
			assert.deepEqual([run.verdict, run.reason], ['drop', 'too_big']);
		});

		test('drops them if so configured', () => {
			const silent = new LbInstance(loadNative(), { options: { tooBig: 'drop' } });
			silent.setVips([{ address: VIP4, port: 80, pool: 1 }]);
			const run = silent.run(long(CLIENT4, VIP4, 1515 - HEAD4));
			assert.deepEqual([run.verdict, run.reason], ['drop', 'too_big']);
			silent.close();
		});
	});

	test('honours a SYN in the quote as the flow’s own', () => {
		const flow = { source: CLIENT4, dest: VIP4, sourcePort: 55555, destPort: 80 };
		const backend = outerDestination(lb.run(flowFrame(flow)).out);
		lb.setRing(1, [2, 3, 1]);
		const quoted = (flags: number) => icmp(ROUTER4, VIP4, { type: 3, payload: flowIp({ ...reversed(flow), flags }) });
		assert.equal(outerDestination(lb.run(quoted(TCP.ack)).out), backend);
		assert.notEqual(outerDestination(lb.run(quoted(TCP.syn | TCP.ack)).out), backend);
	});
});

/** The checksum over an ICMP message as a receiver computes it: 0 is right. */
function icmpSum(frame: Uint8Array): number {
	if (frame[12] === 0x08) return checksum(frame.subarray(34));
	return checksum(frame.subarray(22, 54), words(0, frame.length - 54, 0, PROTOCOL.icmp6), frame.subarray(54));
}
