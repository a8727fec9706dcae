// SPDX-License-Identifier: Apache-2.0
// What entries in etcd mean, and what their disappearance proves.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { IEvent, IKeyValue } from 'etcd3';
import fc from 'fast-check';
import { address } from '../../src/model/address.ts';
import type { Instance } from '../../src/model/snapshot.ts';
import { departures, type Evidence } from '../../src/sources/etcd/departures.ts';
import { etcdError } from '../../src/sources/etcd/etcd-client.ts';
import { auto } from '../../src/sources/etcd/layouts/auto.ts';
import { layoutByName } from '../../src/sources/etcd/layouts/by-name.ts';
import { isRefused } from '../../src/sources/etcd/layouts/layout.ts';
import { ServiceView } from '../../src/sources/etcd/service-view.ts';

const decode = (value: string | Buffer, rest = 'i1') => auto.decode(rest, Buffer.from(value));
const active = (a: string, port = 0, weight = 1) => ({ address: address(a), port, weight, state: 'active' });

const READABLE: readonly (readonly [string, string, object])[] = [
	['host:port', '10.0.0.1:8080', active('10.0.0.1', 8080)],
	['blanks and a line break around it', ' 10.0.0.1:8080\n', active('10.0.0.1', 8080)],
	['an address alone', '10.0.0.1', active('10.0.0.1')],
	['IPv6 in brackets', '[fd00::1]:80', active('fd00::1', 80)],
	['IPv6 in brackets without a port', '[fd00::1]', active('fd00::1')],
	['IPv6 alone', 'fd00::1', active('fd00::1')],
	['an IPv4-mapped address', '[::ffff:10.0.0.1]:80', active('10.0.0.1', 80)],
	['a JSON string', '"10.0.0.1:80"', active('10.0.0.1', 80)],
	['plain JSON', '{"address":"10.0.0.1","port":80,"weight":5}', active('10.0.0.1', 80, 5)],
	['JSON with host', '{"host":"10.0.0.1","port":80}', active('10.0.0.1', 80)],
	['JSON with a port as text', '{"address":"10.0.0.1","port":"80"}', active('10.0.0.1', 80)],
	['JSON that says the port twice alike', '{"address":"10.0.0.1:80","port":80}', active('10.0.0.1', 80)],
	['gRPC naming', '{"Op":0,"Addr":"10.0.0.1:80","Metadata":null}', active('10.0.0.1', 80)],
	['gRPC naming with a weight', '{"Addr":"10.0.0.1:80","Metadata":{"Weight":"7"}}', active('10.0.0.1', 80, 7)],
	['Kitex', '{"network":"tcp","address":"[fd00::2]:80","weight":10,"tags":{}}', active('fd00::2', 80, 10)],
	['a state', '{"address":"10.0.0.1","state":"draining"}', { ...active('10.0.0.1'), state: 'draining' }],
	['unknown fields', '{"address":"10.0.0.1","zone":"a","__proto__":{"weight":9}}', active('10.0.0.1')],
];
for (const [title, value, expected] of READABLE) test(`reads ${title}`, () => assert.deepEqual(decode(value), expected));

const REFUSED: readonly (readonly [string, string | Buffer, RegExp])[] = [
	['nothing', '', /empty/],
	['a name', 'web.example:80', /not an IP address/],
	['octal digits', '010.0.0.1:80', /not an IP address/],
	['a short form', '10.1:80', /not an IP address/],
	['a zone', '[fe80::1%eth0]:80', /not an IP address/],
	['a port too large', '10.0.0.1:65536', /not a port/],
	['a negative port', '{"address":"10.0.0.1","port":-1}', /not a port/],
	['a fractional weight', '{"address":"10.0.0.1","weight":1.5}', /not a whole number/],
	['a weight too large', '{"address":"10.0.0.1","weight":65536}', /0 to 65535/],
	['two ports', '{"address":"10.0.0.1:80","port":81}', /says port 80, the field port 81/],
	['an unknown state', '{"address":"10.0.0.1","state":"ill"}', /none of active, draining, down/],
	['a deletion of gRPC naming', '{"Op":1,"Addr":"10.0.0.1:80"}', /deleted/],
	['half a JSON text', '{"address":"10.0', /not valid JSON/],
	['no address', '{"weight":1}', /no address/],
	['a list', '["10.0.0.1"]', /not an IP address/],
	['bytes that are no text', Buffer.from([0xff, 0xfe]), /not UTF-8/],
	['a value of a megabyte', Buffer.alloc(1 << 20, 0x20), /1048576 bytes/],
];
for (const [title, value, reason] of REFUSED)
	test(`refuses ${title}`, () => {
		const decoded = decode(value);
		assert.ok(isRefused(decoded));
		assert.match(decoded.refused, reason);
	});

test('refuses keys below another service', () => {
	assert.ok(isRefused(decode('10.0.0.1:80', 'admin/i1')));
	assert.ok(isRefused(decode('10.0.0.1:80', '')));
});

test('no value makes the decoder throw or say what is no backend', () => {
	const value = fc.oneof(
		fc.string(),
		fc.json(),
		fc.uint8Array().map((b) => Buffer.from(b)),
	);
	fc.assert(
		fc.property(value, fc.string(), (v, rest) => {
			const decoded = decode(v, rest);
			if (isRefused(decoded)) return;
			assert.ok(Number.isInteger(decoded.port) && decoded.port >= 0 && decoded.port <= 65_535);
			assert.ok(Number.isInteger(decoded.weight) && decoded.weight >= 0 && decoded.weight <= 65_535);
		}),
	);
});

test('knows the layouts that it can read', () => {
	assert.equal(layoutByName('auto'), auto);
	assert.equal(layoutByName('traefik'), undefined);
	assert.equal(auto.servicePrefix('/services/', 'web'), '/services/web/');
});

const kv = (key: string | Buffer, value: string, lease = '0'): IKeyValue => ({
	key: typeof key === 'string' ? Buffer.from(`/services/web/${key}`) : key,
	value: Buffer.from(value),
	lease,
	create_revision: '1',
	mod_revision: '1',
	version: '1',
});
// The protocol says PUT and DELETE, the typings of the package Put and Delete.
const put = (key: string, value: string, lease = '0') => ({ type: 'PUT', kv: kv(key, value, lease) }) as unknown as IEvent;
const remove = (key: string) => ({ type: 'DELETE', kv: kv(key, '') }) as unknown as IEvent;
const view = () => new ServiceView(auto, '/services/', 'web');
const ids = (v: ServiceView) => v.instances.map((i) => i.id.slice('/services/web/'.length)).sort();

test('a view is what its list and events make it', () => {
	const v = view();
	v.replace([kv('a', '10.0.0.1:80'), kv('b', 'nonsense')]);
	assert.deepEqual(ids(v), ['a']);
	assert.deepEqual(
		v.rejected.map((r) => r.instance),
		['/services/web/b'],
	);
	const deleted = v.apply([
		put('c', '10.0.0.3:80'),
		remove('a'),
		put('b', '10.0.0.2:80'),
		remove('x'),
		put('x', '10.0.0.4'),
		put('y', '1'),
		remove('y'),
	]);
	assert.deepEqual(ids(v), ['b', 'c', 'x']);
	assert.deepEqual([...deleted].sort(), ['/services/web/a', '/services/web/y']);
	v.replace([kv('z', '10.0.0.9:80')]);
	assert.deepEqual(ids(v), ['z']);
});

test('events in any number of batches give what a list gives', () => {
	const event = fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.option(fc.integer({ min: 1, max: 9 })));
	fc.assert(
		fc.property(fc.array(fc.array(event)), (batches) => {
			const v = view();
			const state = new Map<string, string>();
			for (const batch of batches) {
				v.apply(batch.map(([key, n]) => (n === null ? remove(key) : put(key, `10.0.0.${n}:80`))));
				for (const [key, n] of batch) n === null ? state.delete(key) : state.set(key, `10.0.0.${n}`);
			}
			assert.deepEqual(new Map(v.instances.map((i) => [i.id.slice(-1), String(i.address)])), state);
		}),
	);
});

test('a weight of 0 drains', () => {
	const v = view();
	v.replace([kv('a', '{"address":"10.0.0.1","weight":0}'), kv('b', '{"address":"10.0.0.2","weight":0,"state":"down"}')]);
	assert.deepEqual(
		v.instances.map((i) => [i.state, i.reason]),
		[
			['draining', 'weight-zero'],
			['down', 'declared'],
		],
	);
});

test('keys that are no text, or look like their substitute, stay apart', () => {
	const v = view();
	const prefix = Buffer.from('/services/web/');
	const raw = [Buffer.from([0xff]), Buffer.from([0xfe]), Buffer.from('a\nb'), Buffer.from('a\\u{a}b')];
	v.replace(raw.map((b) => kv(Buffer.concat([prefix, b]), '10.0.0.1:80')));
	assert.equal(new Set(v.instances.map((i) => i.id)).size, 4);
	for (const { id } of v.instances) assert.ok(!/[\p{C}]/u.test(id));
});

test('leases are remembered for as long as somebody asks about them', () => {
	const v = view();
	v.replace([kv('a', '10.0.0.1:80', '77')]);
	v.apply([remove('a')]);
	assert.equal(v.leaseOf('/services/web/a'), '77');
	v.forget(new Set(['/services/web/a']));
	assert.equal(v.leaseOf('/services/web/a'), '77');
	v.forget(new Set());
	assert.equal(v.leaseOf('/services/web/a'), '0');
});

const gone = (...names: string[]) =>
	names.map(
		(id): Instance => ({ id, address: address('10.0.0.1'), port: 0, weight: 1, state: 'active', reason: 'declared', local: false }),
	);
const evidence = (over: Partial<Evidence>): Evidence => ({
	deleted: new Set(),
	isListProof: false,
	isListed: () => false,
	leaseOf: () => '0',
	hasLeaseEnded: async () => false,
	...over,
});

test('a delete event is an act, of the owner or of the lease', async () => {
	const leases: Record<string, string> = { b: '1', c: '2', d: '3' };
	const kinds = await departures(
		{ gone: gone('a', 'b', 'c', 'd', 'x'), doubted: [] },
		evidence({
			deleted: new Set(['a', 'b', 'c', 'd']),
			leaseOf: (id) => leases[id] ?? '0',
			hasLeaseEnded: async (lease) => {
				if (lease === '3') throw new Error('no answer');
				return lease === '2';
			},
		}),
	);
	assert.deepEqual(
		kinds,
		new Map([
			['a', 'deregistered'],
			['b', 'deregistered'],
			['c', 'lease-expired'],
			['d', 'deregistered'],
		]),
	);
});

test('a list proves absences only when it is proof, and never of what it has', async () => {
	const vanished = { gone: gone('a', 'spoilt'), doubted: gone('b') };
	assert.equal((await departures(vanished, evidence({}))).size, 0);
	const kinds = await departures(vanished, evidence({ isListProof: true, isListed: (id) => id === 'spoilt' }));
	assert.deepEqual(
		kinds,
		new Map([
			['a', 'deregistered'],
			['b', 'deregistered'],
		]),
	);
});

test('each lease is asked about once, and no more once the registry does not answer', async () => {
	let asked = 0;
	const many = gone(...Array.from({ length: 200 }, (_, i) => `i${i}`));
	const deleted = new Set(many.map((i) => i.id));
	await departures({ gone: many, doubted: [] }, evidence({ deleted, leaseOf: () => '9', hasLeaseEnded: async () => ++asked > 0 }));
	assert.equal(asked, 1);
	asked = 0;
	const refuse = async () => {
		asked++;
		throw new Error('no answer');
	};
	await departures(
		{ gone: many, doubted: [] },
		evidence({ deleted, leaseOf: (id) => id.slice(1).padStart(4, '1'), hasLeaseEnded: refuse }),
	);
	assert.ok(asked < 100, `${asked} questions`);
});

test('failures are told in words that stay the same from attempt to attempt', () => {
	const endpoint = { url: 'http://127.0.0.1:2379', secure: false, host: '127.0.0.1', port: 2379 };
	const said = (message: string) => etcdError(endpoint, new Error(message)).message.replace('etcd at http://127.0.0.1:2379: ', '');
	assert.equal(
		said(
			'14 UNAVAILABLE: No connection established. Last error: connect ECONNREFUSED 127.0.0.1:2379 (2026-01-01T00:00:00.000Z). Resolution note: ',
		),
		'connect ECONNREFUSED 127.0.0.1:2379',
	);
	assert.equal(
		said('4 DEADLINE_EXCEEDED: Deadline exceeded after 0.393s,name resolution: 0.063s,Waiting for LB pick'),
		'no answer in time',
	);
	assert.equal(said('the watch was cut: 14 UNAVAILABLE: Connection dropped'), 'the watch was cut: Connection dropped');
	assert.equal(said('etcdserver: permission denied'), 'etcdserver: permission denied');
});
