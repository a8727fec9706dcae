// SPDX-License-Identifier: Apache-2.0
// Packets that can't be balanced: to an address of a vip they are dropped, each under its reason; to any other address
// they pass untouched, whatever is wrong with them, since they are the host's own traffic.
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { type Address, address } from '../../src/model/address.ts';
import { loadNative } from '../../src/native/binding.ts';
import { LbInstance, type LbVip } from '../support/lb-instance.ts';
import { ETHER_TYPE, ethernet, flowFrame, hex, icmp, ip, ipFrame, PROTOCOL, patch, transport } from '../support/packet-builder.ts';
import { whyNoBpf } from '../support/privileged.ts';

interface Odd {
	readonly frame: (dest: Address, source: Address) => Uint8Array;
	/** Drop reason to a vip's address; null = passes there too. */
	readonly reason: string | null;
}

const IPV4_PROTOCOL_AT = 23;
const tcp = (source: Address, dest: Address) => transport({ source, dest, sourcePort: 31337, destPort: 80 });

const ODD4: Record<string, Odd> = {
	'IPv4 options': { frame: (d, s) => ipFrame(ip(s, d, PROTOCOL.tcp, tcp(s, d), { options: new Uint8Array(4) })), reason: 'ip_options' },
	'a first fragment': { frame: (d, s) => ipFrame(ip(s, d, PROTOCOL.tcp, tcp(s, d), { fragment: 0x2000 })), reason: 'fragment' },
	'a later fragment': { frame: (d, s) => ipFrame(ip(s, d, PROTOCOL.udp, new Uint8Array(64), { fragment: 0x0010 })), reason: 'fragment' },
	'a header length below 5': {
		frame: (d, s) => patch(flowFrame({ source: s, dest: d, sourcePort: 1, destPort: 80 }), 14, 0x44),
		reason: 'truncated',
	},
	'a cut TCP header': { frame: (d, s) => ipFrame(ip(s, d, PROTOCOL.tcp, tcp(s, d).subarray(0, 19))), reason: 'truncated' },
	'a cut UDP header': { frame: (d, s) => ipFrame(ip(s, d, PROTOCOL.udp, new Uint8Array(7))), reason: 'truncated' },
	'a cut ICMP header': { frame: (d, s) => ipFrame(ip(s, d, PROTOCOL.icmp, new Uint8Array(7))), reason: 'truncated' },
	'a cut IPv4 header': {
		frame: (d, s) => flowFrame({ source: s, dest: d, sourcePort: 1, destPort: 80 }).subarray(0, 33),
		reason: null,
	},
	'an ICMP error without a quote': { frame: (d, s) => icmp(s, d, { type: 3, code: 4 }), reason: 'icmp_quote' },
	'an ICMP error that quotes half a header': {
		frame: (d, s) => icmp(s, d, { type: 3, payload: ip(d, s, PROTOCOL.tcp, tcp(d, s)).subarray(0, 19) }),
		reason: 'icmp_quote',
	},
	'an ICMP error that quotes no ports': {
		frame: (d, s) => icmp(s, d, { type: 3, payload: ip(d, s, PROTOCOL.tcp, tcp(d, s)).subarray(0, 27) }),
		reason: 'icmp_quote',
	},
	'an ICMP error that quotes options': {
		frame: (d, s) => icmp(s, d, { type: 3, payload: ip(d, s, PROTOCOL.tcp, tcp(d, s), { options: new Uint8Array(4) }) }),
		reason: 'icmp_quote',
	},
	'an ICMP error that quotes a later fragment': {
		frame: (d, s) => icmp(s, d, { type: 3, payload: ip(d, s, PROTOCOL.tcp, tcp(d, s), { fragment: 0x10 }) }),
		reason: 'icmp_quote',
	},
	'an ICMP error about ICMP': {
		frame: (d, s) => icmp(s, d, { type: 3, payload: ip(d, s, PROTOCOL.icmp, new Uint8Array(8)) }),
		reason: null,
	},
	'an ICMP redirect': { frame: (d, s) => icmp(s, d, { type: 5, payload: ip(d, s, PROTOCOL.tcp, tcp(d, s)) }), reason: null },
	'an IPIP packet': { frame: (d, s) => ipFrame(ip(s, d, PROTOCOL.ipip, ip(s, d, PROTOCOL.tcp, tcp(s, d)))), reason: null },
	'ICMPv6 in IPv4': { frame: (d, s) => ipFrame(ip(s, d, PROTOCOL.icmp6, Uint8Array.of(128, 0, 0, 0, 0, 0, 0, 0))), reason: null },
	SCTP: { frame: (d, s) => ipFrame(ip(s, d, 132, new Uint8Array(32))), reason: null },
	'the vip’s other protocol': {
		frame: (d, s) => flowFrame({ source: s, dest: d, sourcePort: 1, destPort: 80, flags: 'udp' }),
		reason: null,
	},
	'another port of the vip': { frame: (d, s) => flowFrame({ source: s, dest: d, sourcePort: 1, destPort: 81 }), reason: null },
};

const ODD6: Record<string, Odd> = {
	'an IPv6 fragment': { frame: (d, s) => ipFrame(ip(s, d, PROTOCOL.fragment, new Uint8Array(40))), reason: 'fragment' },
	'a cut TCP header in IPv6': { frame: (d, s) => ipFrame(ip(s, d, PROTOCOL.tcp, tcp(s, d).subarray(0, 19))), reason: 'truncated' },
	'a cut UDP header in IPv6': { frame: (d, s) => ipFrame(ip(s, d, PROTOCOL.udp, new Uint8Array(7))), reason: 'truncated' },
	'a cut ICMPv6 header': { frame: (d, s) => ipFrame(ip(s, d, PROTOCOL.icmp6, new Uint8Array(7))), reason: 'truncated' },
	'a cut IPv6 header': { frame: (d, s) => flowFrame({ source: s, dest: d, sourcePort: 1, destPort: 80 }).subarray(0, 53), reason: null },
	'an ICMPv6 error without a quote': { frame: (d, s) => icmp(s, d, { type: 1 }), reason: 'icmp_quote' },
	'an ICMPv6 error that quotes no ports': {
		frame: (d, s) => icmp(s, d, { type: 2, payload: ip(d, s, PROTOCOL.tcp, tcp(d, s)).subarray(0, 47) }),
		reason: 'icmp_quote',
	},
	'an ICMPv6 error that quotes a fragment': {
		frame: (d, s) => icmp(s, d, { type: 1, payload: ip(d, s, PROTOCOL.fragment, new Uint8Array(40)) }),
		reason: 'icmp_quote',
	},
	'a neighbour solicitation': { frame: (d, s) => icmp(s, d, { type: 135, payload: new Uint8Array(16) }), reason: null },
	'ICMP in IPv6': { frame: (d, s) => ipFrame(ip(s, d, PROTOCOL.icmp, Uint8Array.of(8, 0, 0, 0, 0, 0, 0, 0))), reason: null },
	'a hop-by-hop header': { frame: (d, s) => ipFrame(ip(s, d, 0, new Uint8Array(40))), reason: null },
};

const FAMILIES = [
	{ odd: ODD4, vip: '10.200.1.1', other: '10.200.1.2', client: '192.168.1.1' },
	{ odd: ODD6, vip: 'fc00:1::1', other: 'fc00:1::2', client: 'fc00:2::1' },
];

suite('packets that cannot be balanced', { skip: whyNoBpf() ?? false }, () => {
	let lb: LbInstance;

	before(() => {
		lb = new LbInstance(loadNative());
		const vips: LbVip[] = FAMILIES.map((f, i) => ({ address: f.vip, port: 80, pool: i + 1 }));
		lb.setVips(vips);
		lb.setBackend(1, '10.0.0.1');
		lb.setBackend(2, 'fc00::1');
		lb.setRing(1, [1]);
		lb.setRing(2, [2]);
	});
	after(() => lb.close());

	for (const { odd, vip, other, client } of FAMILIES) {
		for (const [name, { frame, reason }] of Object.entries(odd)) {
			test(`${reason === null ? 'passes' : 'drops'} ${name} to a vip's address`, () => {
				const sent = frame(address(vip), address(client));
				const run = lb.run(sent);
				assert.deepEqual([run.verdict, run.reason], reason === null ? ['pass', null] : ['drop', reason]);
				assert.equal(hex(run.out), hex(sent), 'nothing in it is changed');
			});

			test(`passes ${name} to any other address`, () => {
				const sent = frame(address(other), address(client));
				const run = lb.run(sent);
				assert.deepEqual([run.verdict, run.reason], ['pass', null]);
				assert.equal(hex(run.out), hex(sent), 'nothing in it is changed');
			});
		}
	}

	test('answers no echo request for an address that is no vip', () => {
		for (const [source, dest, type] of [
			['192.168.1.1', '10.200.1.2', 8],
			['fc00:2::1', 'fc00:1::2', 128],
		] as const) {
			const sent = icmp(address(source), address(dest), { type });
			const run = lb.run(sent);
			assert.equal(run.verdict, 'pass');
			assert.equal(hex(run.out), hex(sent));
		}
	});

	test('passes frames of any other protocol number to a vip, all of them', () => {
		const base = flowFrame({ source: address('192.168.1.1'), dest: address('10.200.1.1'), sourcePort: 1, destPort: 80 });
		for (let protocol = 0; protocol < 256; protocol++) {
			if ([PROTOCOL.icmp, PROTOCOL.tcp, PROTOCOL.udp].some((p) => p === protocol)) continue;
			assert.equal(lb.run(patch(base, IPV4_PROTOCOL_AT, protocol)).verdict, 'pass', `protocol ${protocol}`);
		}
	});

	test('counts what it passes, with its bytes', () => {
		const sent = ethernet(ETHER_TYPE.arp, new Uint8Array(28));
		assert.deepEqual(
			lb.counted(() => lb.run(sent)),
			{ pass: 1, pass_bytes: 42 },
		);
	});
});
