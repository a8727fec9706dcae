// SPDX-License-Identifier: Apache-2.0
// What a services file declares.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isXdpilotError } from '../../src/errors.ts';
import { type DeclaredService, parseServices } from '../../src/sources/file/services.ts';

function web(text: string): DeclaredService {
	const declared = parseServices(text).get('web');
	assert.ok(declared !== undefined && !('error' in declared));
	return declared;
}

test('reads YAML and JSON alike, with defaults', () => {
	const yaml =
		'services:\n  web:\n    - { address: 10.0.0.1, port: 443, weight: 5, local: true, state: draining }\n    - address: "fd00::1"\n';
	const json = JSON.stringify({
		services: { web: [{ address: '10.0.0.1', port: 443, weight: 5, local: true, state: 'draining' }, { address: 'fd00::1' }] },
	});
	for (const text of [yaml, json]) {
		assert.deepEqual(web(text), {
			instances: [
				{ id: '10.0.0.1:443', address: '10.0.0.1', port: 443, weight: 5, state: 'draining', reason: 'declared', local: true },
				{ id: 'fd00::1', address: 'fd00::1', port: 0, weight: 1, state: 'active', reason: 'declared', local: false },
			],
			rejected: [],
		});
	}
});

test('a weight of 0 drains', () => {
	const [i] = web('services: { web: [ { address: 10.0.0.1, weight: 0 } ] }').instances;
	assert.deepEqual([i?.state, i?.reason], ['draining', 'weight-zero']);
});

test('refuses entries one by one, each with its line, under the identity that it hits', () => {
	const text = [
		'services:',
		'  web:',
		'    - { address: 10.0.0.1, wieght: 5 }',
		'    - { address: 10.0.0.2 }',
		'    - { address: 010.0.0.3 }',
		'    - { address: 10.0.0.4, weight: 65536, port: -1 }',
		'    - nonsense',
		'    - { port: 5 }',
		'    - { address: 10.0.0.2 }',
		'    - { address: "::ffff:10.0.0.2" }',
	].join('\n');
	const { instances, rejected } = web(text);
	assert.deepEqual(
		instances.map((i) => i.id),
		['10.0.0.2'],
	);
	assert.deepEqual(
		rejected.map((r) => [r.instance, r.reason.split(':')[0]]),
		[
			['10.0.0.1', 'line 3'],
			['web[2]', 'line 5'],
			['10.0.0.4:-1', 'line 6'],
			['web[4]', 'line 7'],
			['web[5]', 'line 8'],
			['10.0.0.2', 'line 9'],
			['10.0.0.2', 'line 10'],
		],
	);
	assert.match(rejected[0]?.reason ?? '', /unknown key "wieght"/);
	assert.match(rejected[5]?.reason ?? '', /stands already in line 4/);
});

test('one service that is no list leaves the others alone', () => {
	const services = parseServices('services:\n  web: nonsense\n  api: []\n');
	assert.deepEqual(services.get('web'), { error: 'line 2: services.web must be a list' });
	assert.deepEqual(services.get('api'), { instances: [], rejected: [] });
});

test('names of services can not reach into the machinery', () => {
	const services = parseServices('services: { __proto__: [ { address: 10.0.0.1 } ], constructor: [] }');
	assert.deepEqual([...services.keys()], ['__proto__', 'constructor']);
	assert.equal(services.get('toString'), undefined);
});

const UNUSABLE: readonly (readonly [string, string, RegExp])[] = [
	['an empty text', '', /empty/],
	['a list', '- 1', /expected the key services/],
	['an unknown key', 'services: {}\nservice: {}', /line 2: unknown key "service"/],
	['services that are no mapping', 'services: [1]', /line 1: services must map/],
	['broken YAML', 'services:\n  web: [', /line 2/],
	['a key twice', 'services: {}\nservices: {}', /line 2/],
	[
		'an alias bomb',
		`a: &a [x,x,x,x,x,x,x,x,x]\n${'bcdefgh'
			.split('')
			.map((c, i) => `${c}: &${c} [${Array(9).fill(`*${'abcdefg'[i]}`).join()}]`)
			.join('\n')}\nservices: {}`,
		/alias/,
	],
];
for (const [title, text, message] of UNUSABLE)
	test(`can not use ${title}`, () => {
		assert.throws(
			() => parseServices(text),
			(e) => isXdpilotError(e) && e.code === 'E_SOURCE' && message.test(e.message),
		);
	});

test('no text makes the reader fail in another way', () => {
	fc.assert(
		fc.property(
			fc.oneof(
				fc.string(),
				fc.json(),
				fc.json().map((j) => `services: { web: ${j} }`),
			),
			(text) => {
				try {
					parseServices(text);
				} catch (e) {
					assert.ok(isXdpilotError(e), String(e));
				}
			},
		),
	);
});
