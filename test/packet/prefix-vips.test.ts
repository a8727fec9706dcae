// SPDX-License-Identifier: Apache-2.0
// Vips that are prefixes: which vip takes a packet, that a prefix clears the destination port even where it has a port
// of its own, and that flows to two addresses of one prefix are two flows.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, suite, test } from 'node:test';
import { openPrivateDatapath } from '../../src/datapath/open.ts';
import { type Address, address } from '../../src/model/address.ts';
import { loadNative } from '../../src/native/binding.ts';
import { sendThrough, smallOptions, surroundings } from '../support/datapath-subject.ts';
import { LbInstance, type LbVip, outerDestination } from '../support/lb-instance.ts';
import { type FlowPacket, flowFrame, flowIp, hex, icmp, ip, ipFrame, PROTOCOL, TCP } from '../support/packet-builder.ts';
import { whyNoBpf } from '../support/privileged.ts';
import { simulateFrames } from '../support/simulating.ts';

const CLIENT = address('192.168.1.1');
const CLIENT6 = address('fc00:2::1');
/** Ring positions of the clients above from port 31337 to destination port 0 and 443: lookup3 by hand, seeds 33554944 and 512. */
const SLOT = { v4: { port0: 39962, port443: 44923 }, v6: { port0: 56502, port443: 35968 } };

const flow = (over: Partial<FlowPacket> = {}): FlowPacket => ({
	source: CLIENT,
	dest: address('10.7.1.1'),
	sourcePort: 31337,
	destPort: 443,
	flags: TCP.syn,
	...over,
});
const flow6 = (over: Partial<FlowPacket> = {}) => flow({ source: CLIENT6, dest: address('fc00:1::77'), ...over });

suite('prefix vips', { skip: whyNoBpf() ?? false }, () => {
	let lb: LbInstance;

	beforeEach(() => {
		lb = new LbInstance(loadNative(), { options: { prefixVips: true } });
		for (let id = 1; id <= 6; id++) {
			lb.setBackend(id, `10.0.0.${id}`);
			lb.setBackend(20 + id, `fc00::${id}`);
			lb.setRing(id, [id]);
			lb.setRing(8 + id, [20 + id]);
		}
	});
	afterEach(() => lb.close());

	function send(p: FlowPacket): Address | string {
		const { verdict, out, reason } = lb.run(flowFrame(p));
		return verdict === 'tx' ? outerDestination(out) : (reason ?? verdict);
	}

	const vip = (at: string, port: number, pool: number, flags: LbVip['flags'] = []): LbVip => ({ address: at, port, pool, flags });

	test('an exact port wins over port 0, and for each an address over a prefix', () => {
		const all = [vip('10.7.1.1', 443, 1), vip('10.7.0.0/16', 443, 2), vip('10.7.1.1', 0, 3), vip('10.7.0.0/16', 0, 4)];
		for (let first = 0; first < all.length; first++) {
			lb.setVips(all.slice(first));
			assert.equal(send(flow()), `10.0.0.${first + 1}`);
		}
		lb.setVips([]);
		assert.equal(send(flow()), 'pass');
	});

	test('the same over IPv6', () => {
		const all = [vip('fc00:1::77', 443, 9), vip('fc00:1::/96', 443, 10), vip('fc00:1::77', 0, 11), vip('fc00:1::/96', 0, 12)];
		for (let first = 0; first < all.length; first++) {
			lb.setVips(all.slice(first));
			assert.equal(send(flow6()), `fc00::${first + 1}`);
		}
	});

	test('the longest prefix wins, down to all addresses of a family', () => {
		lb.setVips([vip('0.0.0.0/0', 443, 1), vip('10.7.0.0/16', 443, 2), vip('10.7.1.0/31', 443, 3), vip('::/0', 443, 9)]);
		assert.equal(send(flow()), '10.0.0.3');
		assert.equal(send(flow({ dest: address('10.7.1.2') })), '10.0.0.2');
		assert.equal(send(flow({ dest: address('10.8.0.0') })), '10.0.0.1');
		assert.equal(send(flow6()), 'fc00::1');
	});

	test('port and protocol must be those of the prefix', () => {
		lb.setVips([vip('10.7.0.0/16', 443, 1)]);
		assert.equal(send(flow({ destPort: 80 })), 'pass');
		assert.equal(send(flow({ flags: 'udp' })), 'pass');
		assert.equal(send(flow({ dest: address('10.8.0.1') })), 'pass');
	});

	for (const [name, packet, prefix, slots] of [
		['IPv4', flow(), '10.7.0.0/16', SLOT.v4],
		['IPv6', flow6(), 'fc00:1::/96', SLOT.v6],
	] as const) {
		const only = (slot: number) => {
			const [pool, there, elsewhere] = name === 'IPv4' ? [1, 1, 2] : [9, 21, 22];
			lb.setRing(pool, [there, elsewhere], (s) => (s === slot ? 0 : 1));
			return name === 'IPv4' ? '10.0.0.1' : 'fc00::1';
		};

		test(`a prefix with a port of its own hashes the destination port as 0, over ${name}`, () => {
			lb.setVips([vip(prefix, 443, name === 'IPv4' ? 1 : 9)]);
			const there = only(slots.port0);
			assert.equal(send(packet), there);
		});

		test(`a prefix with hash_source_dest_port keeps the destination port, over ${name}`, () => {
			lb.setVips([vip(prefix, 443, name === 'IPv4' ? 1 : 9, ['hash_source_dest_port'])]);
			const there = only(slots.port443);
			assert.equal(send(packet), there);
		});
	}

	test('flows to two addresses of a prefix are two flows, each of which is kept', () => {
		lb.setVips([vip('10.7.0.0/16', 0, 1), vip('fc00:1::/96', 0, 9)]);
		send(flow());
		send(flow6());
		lb.setRing(1, [2]);
		lb.setRing(9, [22]);
		assert.equal(send(flow({ flags: TCP.ack, dest: address('10.7.9.9') })), '10.0.0.2');
		assert.equal(send(flow({ flags: TCP.ack })), '10.0.0.1');
		assert.equal(send(flow6({ flags: TCP.ack, dest: address('fc00:1::78') })), 'fc00::2');
		assert.equal(send(flow6({ flags: TCP.ack })), 'fc00::1');
		assert.equal(lb.flowEntries().length, 4);
	});

	test('what can’t be parsed is dropped for addresses of a prefix, and echo is answered', () => {
		lb.setVips([vip('10.7.0.0/16', 443, 1), vip('fc00:1::/96', 443, 9)]);
		const fragment = (dest: string) => lb.run(flowFrame(flow({ dest: address(dest), fragment: 0x2000 })));
		assert.equal(fragment('10.7.200.1').reason, 'fragment');
		assert.equal(fragment('10.8.0.1').verdict, 'pass');
		const fragment6 = ipFrame(ip(CLIENT6, address('fc00:1::5'), PROTOCOL.fragment, new Uint8Array(40)));
		assert.equal(lb.run(fragment6).reason, 'fragment');
		assert.equal(lb.run(icmp(CLIENT, address('10.7.3.3'), { type: 8 })).verdict, 'tx');
		assert.equal(lb.run(icmp(CLIENT, address('10.8.3.3'), { type: 8 })).verdict, 'pass');
	});

	test('an ICMP error follows the flow that it quotes', () => {
		lb.setVips([vip('10.7.0.0/16', 443, 1)]);
		send(flow());
		lb.setRing(1, [2]);
		const sent = flow({ flags: TCP.ack });
		const quote = flowIp({ ...sent, source: sent.dest, dest: sent.source, sourcePort: sent.destPort, destPort: sent.sourcePort });
		const { out } = lb.run(icmp(address('10.9.9.9'), sent.dest, { type: 3, code: 4, payload: quote }));
		assert.equal(outerDestination(out), '10.0.0.1');
	});
});

test('a flow to a prefix is explained as its packets go', { skip: whyNoBpf() ?? false }, async () => {
	const datapath = await openPrivateDatapath(surroundings(), smallOptions({}, { prefixVips: true }));
	try {
		const members = [address('fc00::1'), address('fc00::2'), address('fc00::3')];
		datapath.putBackends(members.map((at) => ({ pool: 'web', address: at, state: 'active', encap: 'ipip', local: false })));
		await datapath.swapRings([{ pool: 'web', hash: 'maglev-v2', members: members.map((at) => ({ address: at, weight: 1 })) }]);
		const vips = [
			{ prefix: { address: address('fc00:1::'), length: 96 }, port: 443, protocol: 'tcp', pool: 'web', flags: [] },
			{ prefix: { address: address('10.7.0.0'), length: 16 }, port: 0, protocol: 'tcp', pool: 'web', flags: [] },
		] as const;
		await datapath.putVips(vips);
		for (const { source, dest, sourcePort, destPort } of [flow(), flow6()]) {
			const asked = { source, dest, sourcePort, destPort, protocol: 'tcp' } as const;
			const before = datapath.explain(asked);
			assert.equal(before.via, 'ring');
			assert.equal(sendThrough(datapath, asked), before.backend?.address);
			const after = datapath.explain(asked);
			assert.deepEqual([after.via, after.backend], ['flow-table', before.backend]);
			assert.equal(datapath.explain({ ...asked, dest: address(dest === '10.7.1.1' ? '10.7.1.2' : 'fc00:1::78') }).via, 'ring');
		}
		await datapath.putVips(vips.slice(1));
		assert.deepEqual([...datapath.actual().vips.keys()], ['10.7.0.0:0/tcp@16']);
		assert.equal(
			sendThrough(datapath, { source: CLIENT6, dest: address('fc00:1::77'), sourcePort: 1, destPort: 443, protocol: 'tcp' }),
			'pass',
		);
	} finally {
		await datapath.close();
	}
});

test('a program loaded without prefix vips refuses them', { skip: whyNoBpf() ?? false }, async () => {
	const datapath = await openPrivateDatapath(surroundings(), smallOptions());
	try {
		await datapath.swapRings([{ pool: 'web', hash: 'maglev-v2', members: [] }]);
		const prefix = { address: address('10.7.0.0'), length: 16 };
		await assert.rejects(datapath.putVips([{ prefix, port: 0, protocol: 'tcp', pool: 'web', flags: [] }]), { code: 'E_DATAPATH' });
	} finally {
		await datapath.close();
	}
});

test('a configured prefix is served in a simulation, byte for byte', { skip: whyNoBpf() ?? false }, async () => {
	const config = {
		datapath: { gateway_mac: '00:00:de:ad:be:af' },
		sources: { static: { kind: 'file', path: 'services.yaml' } },
		pools: { web: { from: { source: 'static', service: 'web' } } },
		vips: [{ address: 'fc00:1::/96', port: 443, protocol: 'tcp', pool: 'web' }],
	};
	const packet = flow6();
	const { lines, stderr } = await simulateFrames(config, { services: { web: [{ address: 'fc00::1' }] } }, [flowFrame(packet)]);
	assert.equal(stderr, '');
	// Outer IPv6: payload 40 + 20 = 0x3c, next header 41, hop limit 64; source 100::(0000:0001 ^ 7a69:0000).
	const outer = '60000000003c29400100000000000000000000007a690001fc000000000000000000000000000001';
	assert.equal(Buffer.from(lines[0]?.out ?? '', 'base64').toString('hex'), `0000deadbeaf02000000000286dd${outer}${hex(flowIp(packet))}`);
	assert.equal(lines[0]?.vip, '[fc00:1::]:443/tcp@96');
});
