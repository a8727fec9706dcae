// SPDX-License-Identifier: Apache-2.0
// Which instances may become backends, and what an operator reads about the others.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DenyList } from '../../src/guard/deny.ts';
import { PrefixSet } from '../../src/guard/prefix-set.ts';
import { type Address, address, formatAddress, type Prefix, parsePrefix, prefixContains } from '../../src/model/address.ts';
import type { Instance } from '../../src/model/snapshot.ts';
import type { Vip, VipFlag } from '../../src/model/vip.ts';
import { admission, instance } from '../support/snapshots.ts';

function prefix(text: string): Prefix {
	const p = parsePrefix(text);
	assert.ok(p);
	return p;
}

function vip(port: number, over: { address?: string; pool?: string; flags?: VipFlag[] } = {}): Vip {
	return { prefix: prefix(over.address ?? '203.0.113.10'), port, protocol: 'tcp', pool: over.pool ?? 'web', flags: over.flags ?? [] };
}

const at = (text: string, over: Partial<Instance> = {}) => instance(1, { id: `at ${text}`, address: address(text), ...over });

const reasonFor = (a: ReturnType<typeof admission>, i: Instance) => a.admit('web', [i]).rejected[0]?.reason ?? 'admitted';

test('refuses every address that can never be a server, and says which kind it is', () => {
	const facts = { own: [{ address: address('10.9.0.1'), length: 24 }], vips: [vip(80), vip(0, { address: '198.51.100.0/24' })] };
	const rows: [string, RegExp][] = [
		['0.0.0.0', /unspecified/],
		['0.1.2.3', /unspecified/],
		['127.0.0.1', /loopback/],
		['127.255.255.254', /loopback/],
		['169.254.169.254', /link-local/],
		['224.0.0.1', /multicast/],
		['239.255.255.255', /multicast/],
		['240.0.0.1', /reserved/],
		['255.255.255.255', /broadcast/],
		['::', /unspecified/],
		['::1', /loopback/],
		['::10.0.0.1', /IPv4-compatible/],
		['::ffff:127.0.0.1', /loopback/],
		['64:ff9b::a00:1', /translator/],
		['100::1', /discard-only/],
		['fe80::1', /link-local/],
		['ff02::1', /multicast/],
		['10.9.0.1', /own address/],
		['10.9.0.255', /broadcast address of 10\.9\.0\.1\/24/],
		['203.0.113.10', /the vip 203\.0\.113\.10:80/],
		['198.51.100.7', /the vip/],
	];
	const rules = admission(facts);
	for (const [text, expected] of rows) assert.match(reasonFor(rules, at(text)), expected, text);
	for (const good of ['10.9.0.2', '10.9.1.255', '192.168.0.0', 'fd00::1', '2001:db8::1', '126.255.255.255', '223.255.255.255']) {
		assert.equal(reasonFor(rules, at(good)), 'admitted', good);
	}
});

test('never admits an address of the deny list, whatever it is', () => {
	const deny = new DenyList([], []);
	const ranges = ['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/3', '::/96', 'fe80::/10', 'ff00::/8', '64:ff9b::/96'].map(
		prefix,
	);
	const anyAddress = fc.oneof(
		fc.uint8Array({ minLength: 4, maxLength: 4 }),
		fc.uint8Array({ minLength: 16, maxLength: 16 }),
		// IPv6 with a short random prefix and a short random suffix: near the special ranges.
		fc.tuple(fc.uint8Array({ minLength: 2, maxLength: 2 }), fc.uint8Array({ minLength: 2, maxLength: 2 })).map(([head, tail]) => {
			const bytes = new Uint8Array(16);
			bytes.set(head, 0);
			bytes.set(tail, 14);
			return bytes;
		}),
	);
	fc.assert(
		fc.property(anyAddress, (bytes) => {
			const a = formatAddress(bytes);
			const isSpecial = ranges.some((r) => prefixContains(r, a));
			if (isSpecial) assert.notEqual(deny.reason(a), undefined, a);
		}),
		{ numRuns: 500 },
	);
});

test('a prefix set contains exactly what its prefixes contain', () => {
	const row = fc.oneof(
		fc.tuple(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.nat(32)),
		fc.tuple(fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.nat(128)),
	);
	let inside = 0;
	fc.assert(
		fc.property(row, row, fc.nat(127), ([bytes, length], [other, otherLength], bit) => {
			const prefixes = [prefix(`${formatAddress(bytes)}/${length}`), prefix(`${formatAddress(other)}/${otherLength}`)];
			// The first prefix's address with one bit flipped: inside or just outside.
			const flipped = Uint8Array.from(bytes);
			const index = (bit >> 3) % bytes.length;
			flipped[index] = (flipped[index] ?? 0) ^ (1 << (bit & 7));
			const a: Address = formatAddress(flipped);
			const expected = prefixes.findIndex((p) => prefixContains(p, a));
			inside += expected < 0 ? 0 : 1;
			assert.equal(new PrefixSet(prefixes.map((p, i) => [p, i] as const)).find(a), expected < 0 ? undefined : expected);
		}),
		{ numRuns: 300 },
	);
	assert.ok(inside > 30, `only ${inside} of 300 addresses were inside`);
	assert.equal(new PrefixSet([[prefix('::/0'), true]]).find(address('10.0.0.1')), undefined);
});

test('admits only what allowed_backends allows', () => {
	const rules = admission({ allowed: [prefix('10.0.0.0/8'), prefix('fd00::/8')] });
	assert.equal(reasonFor(rules, at('10.1.2.3')), 'admitted');
	assert.equal(reasonFor(rules, at('fd00::9')), 'admitted');
	assert.equal(reasonFor(rules, at('192.168.0.1')), '192.168.0.1 is outside allowed_backends');
});

test('the built-in list holds even where allowed_backends says otherwise', () => {
	assert.match(reasonFor(admission({ allowed: [prefix('127.0.0.0/8')] }), at('127.0.0.1')), /loopback/);
});

test('an own address may be a local backend of a pool with a local vip, and nothing else', () => {
	const own = [{ address: address('10.9.0.1'), length: 24 }];
	const local = { local: true };
	assert.equal(reasonFor(admission({ own, vips: [vip(80, { flags: ['local'] })] }), at('10.9.0.1', local)), 'admitted');
	assert.match(reasonFor(admission({ own, vips: [vip(80)] }), at('10.9.0.1', local)), /own address/);
	assert.match(reasonFor(admission({ own, vips: [vip(80, { flags: ['local'] })] }), at('10.9.0.1')), /own address/);
	assert.match(reasonFor(admission({ own, vips: [vip(80, { flags: ['local'] })] }), at('10.9.0.255', local)), /broadcast/);
});

test('a port must be that of a vip when both are stated', () => {
	assert.match(
		reasonFor(admission({ vips: [vip(80), vip(443)] }), at('10.0.0.1', { port: 8080 })),
		/port 8080 is not the port of a vip of this pool \(80, 443\)/,
	);
	assert.equal(reasonFor(admission({ vips: [vip(80), vip(443)] }), at('10.0.0.1', { port: 443 })), 'admitted');
	assert.equal(reasonFor(admission({ vips: [vip(80)] }), at('10.0.0.1', { port: 0 })), 'admitted');
	assert.equal(reasonFor(admission({ vips: [vip(80), vip(0)] }), at('10.0.0.1', { port: 8080 })), 'admitted');
	assert.equal(reasonFor(admission({ vips: [vip(80, { pool: 'other' })] }), at('10.0.0.1', { port: 8080 })), 'admitted');
});

test('an IPv4 backend is refused where every vip is IPv6, since nothing could reach it', () => {
	const ipv6 = vip(80, { address: '2001:db8::10' });
	assert.match(reasonFor(admission({ vips: [ipv6] }), at('10.0.0.1')), /10\.0\.0\.1 is IPv4 and every vip of this pool is IPv6/);
	assert.equal(reasonFor(admission({ vips: [ipv6] }), at('fd00::1')), 'admitted');
	assert.equal(reasonFor(admission({ vips: [ipv6, vip(80)] }), at('10.0.0.1')), 'admitted', 'the IPv4 vip can use it');
	assert.equal(reasonFor(admission({ vips: [] }), at('10.0.0.1')), 'admitted', 'no vip says what the pool is for');
});

test('an address twice in a pool is one backend, and the second instance is told so', () => {
	const a = at('10.0.0.1', { id: 'a' });
	const b = at('10.0.0.1', { id: 'b' });
	const { instances, rejected } = admission().admit('web', [b, a]);
	assert.deepEqual([...instances.values()], [a]);
	assert.deepEqual(rejected, [{ instance: 'b', reason: '10.0.0.1 is already in this pool as a' }]);
});

test('of two instances with one address the living one counts', () => {
	const dead = at('10.0.0.1', { id: 'a', state: 'down', reason: 'check-failed' });
	const alive = at('10.0.0.1', { id: 'b' });
	assert.deepEqual([...admission().admit('web', [dead, alive]).instances.values()], [alive]);
});

test('more backends than a pool may have are cut by address, in whatever order they come', () => {
	const all = [5, 3, 1, 4, 2].map((n) => instance(n));
	const cut = admission({ maxBackends: 3 }).admit('web', all);
	assert.deepEqual([...cut.instances.keys()], ['10.0.0.1', '10.0.0.2', '10.0.0.3']);
	assert.deepEqual(
		cut.rejected.map((r) => r.instance),
		['i4', 'i5'],
	);
	assert.match(cut.rejected[0]?.reason ?? '', /3 backends already/);
});

test('what is admitted does not depend on the order of the instances', () => {
	const some = fc.array(
		fc.record({
			id: fc.string({ minLength: 1, maxLength: 3 }),
			n: fc.nat(6),
			state: fc.constantFrom('active' as const, 'draining' as const, 'down' as const),
			port: fc.constantFrom(0, 80, 81),
		}),
		{ maxLength: 12 },
	);
	const rules = admission({ maxBackends: 3, vips: [vip(80)] });
	fc.assert(
		fc.property(some, fc.infiniteStream(fc.nat()), (rows, order) => {
			const instances = [...new Map(rows.map((r) => [r.id, r])).values()].map(({ id, n, state, port }) => instance(n, { id, state, port }));
			const keyed = instances.map((i) => [order.next().value ?? 0, i] as const);
			const shuffled = keyed.sort(([a], [b]) => a - b).map(([, i]) => i);
			const [x, y] = [rules.admit('web', instances), rules.admit('web', shuffled)];
			assert.deepEqual([...x.instances], [...y.instances]);
			assert.deepEqual(x.rejected, y.rejected);
		}),
	);
});
