// SPDX-License-Identifier: Apache-2.0
// What Consul's answers mean, and what the catalog proves.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { address } from '../../src/model/address.ts';
import type { Instance } from '../../src/model/snapshot.ts';
import { readAnswer } from '../../src/sources/consul/answer.ts';
import { type DepartureQuestion, departures } from '../../src/sources/consul/departures.ts';

type Status = 'passing' | 'warning' | 'critical';
interface Over {
	readonly node?: object;
	readonly service?: object;
	readonly checks?: readonly (readonly [string, string])[] | null;
}

const entry = ({ node = {}, service = {}, checks = [['serfHealth', 'passing']] }: Over = {}) => ({
	Node: { ID: 'uuid', Node: 'n1', Address: '10.1.0.1', CreateIndex: 5, ...node },
	Service: { ID: 'web1', Service: 'web', Tags: ['prod'], Address: '10.0.0.1', Port: 80, Weights: { Passing: 3, Warning: 2 }, ...service },
	Checks: checks?.map(([CheckID, Status]) => ({ CheckID, Status, ServiceID: '' })) ?? null,
});
const read = (...entries: unknown[]) => readAnswer(entries, []) ?? assert.fail();
const only = (over: Over) => read(entry(over)).instances[0] ?? assert.fail(JSON.stringify(read(entry(over)).rejected));

const CHECKS: readonly (readonly [string, readonly (readonly [string, Status])[], string, number, string])[] = [
	['no check', [], 'active', 3, 'passing'],
	[
		'passing checks',
		[
			['serfHealth', 'passing'],
			['http', 'passing'],
		],
		'active',
		3,
		'passing',
	],
	[
		'one warning',
		[
			['serfHealth', 'passing'],
			['http', 'warning'],
		],
		'active',
		2,
		'warning',
	],
	[
		'one critical among passing',
		[
			['a', 'passing'],
			['b', 'critical'],
		],
		'down',
		3,
		'check-failed',
	],
	[
		'a critical check and a warning',
		[
			['a', 'warning'],
			['b', 'critical'],
		],
		'down',
		2,
		'check-failed',
	],
	[
		'a dead node',
		[
			['serfHealth', 'critical'],
			['http', 'critical'],
		],
		'down',
		3,
		'node-failed',
	],
	['service maintenance', [['_service_maintenance:web1', 'critical']], 'draining', 3, 'maintenance'],
	['node maintenance', [['_node_maintenance', 'critical']], 'draining', 3, 'maintenance'],
	[
		'maintenance of a failed service',
		[
			['_service_maintenance:web1', 'critical'],
			['http', 'critical'],
		],
		'down',
		3,
		'check-failed',
	],
	[
		'maintenance on a dead node',
		[
			['_node_maintenance', 'critical'],
			['serfHealth', 'critical'],
		],
		'down',
		3,
		'node-failed',
	],
];
for (const [title, checks, state, weight, reason] of CHECKS)
	test(`${title}: ${state}, ${reason}`, () => {
		const i = only({ checks });
		assert.deepEqual([i.state, i.weight, i.reason], [state, weight, reason]);
	});

test('weights, ports, addresses and checks have defaults', () => {
	const bare = only({ service: { Weights: undefined, Port: undefined, Address: '', Tags: null }, checks: null });
	assert.deepEqual([bare.weight, bare.port, bare.address, bare.state], [1, 0, '10.1.0.1', 'active']);
	const drained = only({ service: { Weights: { Passing: 0, Warning: 1 } } });
	assert.deepEqual([drained.state, drained.reason], ['draining', 'weight-zero']);
});

const REFUSED: readonly (readonly [string, unknown, RegExp, string])[] = [
	['a name for an address', entry({ service: { Address: 'web.example' } }), /"web.example" is not an IP address/, 'n1/web1'],
	['a proxy', entry({ service: { Kind: 'connect-proxy' } }), /is a connect-proxy/, 'n1/web1'],
	['a weight out of range', entry({ service: { Weights: { Passing: 70_000, Warning: 1 } } }), /Service.Weights.Passing/, 'n1/web1'],
	['a port out of range', entry({ service: { Port: 70_000 } }), /Service.Port/, 'n1/web1'],
	['an unknown check status', entry({ checks: [['a', 'unknown']] }), /Checks.0.Status/, 'n1/web1'],
	['an empty id', entry({ service: { ID: '' } }), /Service.ID/, 'entry 1 of the answer'],
	['null', null, /expected object/, 'entry 1 of the answer'],
	['a number', 7, /expected object/, 'entry 1 of the answer'],
];
for (const [title, bad, reason, label] of REFUSED)
	test(`refuses ${title} alone`, () => {
		const answer = read(bad, entry({ service: { ID: 'web2', Address: '10.0.0.2' } }));
		assert.deepEqual(
			answer.instances.map((i) => i.id),
			['n1/web2'],
		);
		assert.equal(answer.rejected[0]?.instance, label);
		assert.match(answer.rejected[0]?.reason ?? '', reason);
	});

test('an answer that is no list is no answer', () => {
	for (const body of [null, {}, 'text', 5, undefined]) assert.equal(readAnswer(body, []), undefined);
});

test('the same entry twice counts once', () => {
	const answer = read(entry(), entry());
	assert.equal(answer.instances.length, 1);
	assert.equal(answer.rejected.length, 1);
});

test('tags must all be there, whoever filtered', () => {
	const answer = readAnswer([entry(), entry({ service: { ID: 'b', Tags: ['prod', 'eu'] } })], ['prod', 'eu']);
	assert.deepEqual(
		answer?.instances.map((i) => i.id),
		['n1/b'],
	);
});

test('no answer makes the reader throw', () => {
	fc.assert(
		fc.property(fc.anything(), fc.jsonValue(), (a, b) => {
			readAnswer([a, b, entry({ node: { Node: a }, service: { ID: b } })], []);
			readAnswer(b, []);
		}),
	);
});

const instance = (id: string): Instance => ({
	id,
	address: address('10.0.0.1'),
	port: 0,
	weight: 1,
	state: 'active',
	reason: 'passing',
	local: false,
});
const nodeWith = (services: object, node: object = {}) => ({ Node: { ID: 'uuid', CreateIndex: 5, ...node }, Services: services });

interface Catalog {
	readonly rights: { readonly service: boolean; readonly nodes: readonly string[] } | undefined;
	readonly nodes: Readonly<Record<string, unknown>>;
}

function question({ rights, nodes }: Catalog, over: Partial<DepartureQuestion> = {}): DepartureQuestion {
	return {
		service: 'web',
		tags: [],
		gone: [instance('n1/web1')],
		placeOf: (id) => ({ node: id.split('/')[0] ?? '', nodeIdentity: 'uuid/5', serviceId: id.split('/')[1] ?? '' }),
		areOthersListed: false,
		client: {
			mayRead: async () => (rights === undefined ? undefined : { service: rights.service, nodes: new Set(rights.nodes) }),
			node: async (name) => nodes[name] ?? null,
		},
		signal: new AbortController().signal,
		...over,
	};
}
const ALL = { service: true, nodes: ['n1', 'n2'] };

const PROOFS: readonly (readonly [string, Catalog, Partial<DepartureQuestion>, string | undefined])[] = [
	['the node no longer has it', { rights: ALL, nodes: { n1: nodeWith({}) } }, {}, 'deregistered'],
	['its id belongs to another service now', { rights: ALL, nodes: { n1: nodeWith({ web1: { Service: 'api' } }) } }, {}, 'deregistered'],
	[
		'it lacks a tag now',
		{ rights: ALL, nodes: { n1: nodeWith({ web1: { Service: 'web', Tags: ['x'] } }) } },
		{ tags: ['prod'] },
		'deregistered',
	],
	[
		'the catalog still has it',
		{ rights: ALL, nodes: { n1: nodeWith({ web1: { Service: 'web', Tags: ['prod'] } }) } },
		{ tags: ['prod'] },
		undefined,
	],
	['the node is gone', { rights: ALL, nodes: {} }, {}, 'node-gone'],
	['the node is another one of that name', { rights: ALL, nodes: { n1: nodeWith({}, { ID: 'other' }) } }, {}, undefined],
	['the node was registered anew', { rights: ALL, nodes: { n1: nodeWith({}, { CreateIndex: 9 }) } }, {}, undefined],
	['the token may not read the service', { rights: { service: false, nodes: ['n1'] }, nodes: { n1: nodeWith({}) } }, {}, undefined],
	['the token may not read the node', { rights: { service: true, nodes: [] }, nodes: {} }, {}, undefined],
	['the rights are unknown and nothing is left', { rights: undefined, nodes: { n1: nodeWith({}) } }, {}, undefined],
	[
		'the rights are unknown, but others are listed',
		{ rights: undefined, nodes: { n1: nodeWith({}) } },
		{ areOthersListed: true },
		'deregistered',
	],
	['the rights are unknown and so is the node', { rights: undefined, nodes: {} }, { areOthersListed: true }, undefined],
	['the node answers nonsense', { rights: ALL, nodes: { n1: 'nonsense' } }, {}, undefined],
	['nobody knows where it was', { rights: ALL, nodes: { n1: nodeWith({}) } }, { placeOf: () => undefined }, undefined],
];
for (const [title, catalog, over, kind] of PROOFS)
	test(`when ${title}: ${kind ?? 'nothing is proven'}`, async () => {
		assert.equal((await departures(question(catalog, over))).get('n1/web1'), kind);
	});

test('each node is asked about once, and not more than a bound', async () => {
	const asked: string[] = [];
	const gone = Array.from({ length: 500 }, (_, i) => instance(`n${i % 100}/web${i}`));
	const nodes = Array.from({ length: 100 }, (_, i) => `n${i}`);
	const base = question({ rights: { service: true, nodes }, nodes: {} }, { gone });
	const kinds = await departures({ ...base, client: { ...base.client, node: async (n) => asked.push(n) && null } });
	assert.equal(new Set(asked).size, asked.length);
	assert.ok(asked.length <= 64);
	assert.equal(kinds.size, asked.length * 5);
});
