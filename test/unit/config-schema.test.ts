// SPDX-License-Identifier: Apache-2.0
// The schema's products are current, the scalars read what they should, and what is not built is named.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { staleFiles } from '../../scripts/gen-config-schema.ts';
import { missingFeatures } from '../../src/config/features.ts';
import { configJsonSchema, homesOf, keysAt } from '../../src/config/key-tree.ts';
import { parseConfig } from '../../src/config/load.ts';
import { nearest } from '../../src/config/nearest.ts';
import { formatDuration, isPrime, parseDuration } from '../../src/config/values.ts';

test('the JSON Schema and the key tables of the documentation are current', () => {
	assert.deepEqual(staleFiles(), [], 'run: npm run gen');
});

test('every key is explained or explains itself by its parent', () => {
	const silent: string[] = [];
	const walk = (node: ReturnType<typeof configJsonSchema>, path: string, parentSpeaks: boolean): void => {
		const speaks = node.description !== undefined || node.items?.description !== undefined;
		const leaf = node.properties === undefined && node.additionalProperties === undefined && node.oneOf === undefined;
		if (leaf && !speaks && !parentSpeaks && node.const === undefined) silent.push(path);
		for (const [name, child] of Object.entries(node.properties ?? {})) walk(child, `${path}.${name}`, speaks);
		if (node.additionalProperties) walk(node.additionalProperties, `${path}.*`, false);
		if (node.items) walk(node.items, `${path}[]`, speaks);
		for (const branch of node.oneOf ?? []) walk(branch, path, false);
	};
	walk(configJsonSchema(), '', false);
	assert.deepEqual(silent, []);
});

test('the key tree knows where keys belong', () => {
	const tree = configJsonSchema();
	assert.deepEqual(homesOf(tree, 'ring_size'), ['datapath']);
	assert.deepEqual(homesOf(tree, 'quiet'), ['pools.*.debounce']);
	assert.ok(keysAt(tree, ['sources', 'x'], { sources: { x: { kind: 'file' } } }).includes('path'));
	assert.ok(!keysAt(tree, ['sources', 'x'], { sources: { x: { kind: 'file' } } }).includes('endpoints'));
});

test('durations survive being written and read', () => {
	fc.assert(fc.property(fc.integer({ min: 0, max: 999_999_999 }), (ms) => assert.equal(parseDuration(formatDuration(ms)), ms)));
	assert.equal(formatDuration(90_000), '90s');
	assert.equal(formatDuration(600_000), '10m');
	for (const text of ['', '5', '5 s', '-1s', '1.5s', '1e3ms', '5sec', '٣s']) assert.equal(parseDuration(text), undefined, text);
});

test('primes are told from other numbers', () => {
	assert.deepEqual([0, 1, 2, 3, 4, 9, 251, 65_535, 65_537, 65_539, 8_388_593].filter(isPrime), [2, 3, 251, 65_537, 65_539, 8_388_593]);
});

test('the nearest word is named, a far one is not', () => {
	assert.equal(nearest('interfce', ['mode', 'interface']), 'interface');
	assert.equal(nearest('flgas', ['flags', 'pool']), 'flags');
	assert.equal(nearest('xyz', ['interface', 'mode']), undefined);
	assert.equal(nearest('constructor', []), undefined);
});

const BASE = `sources: { s: { kind: file, path: x } }\npools: { p: { from: { source: s, service: a } } }\n`;

test('what every version has is not reported as missing', () => {
	const text = `${BASE}datapath: { interface: eth0, server_ids: [{ address: 10.0.0.1, ids: [1] }], too_big: drop, new_flow_limit: 5, encap: gue, gue_checksum: exact, decap: { ipip: true, gue: true } }
vips: [{ address: 203.0.113.1, port: 443, protocol: udp, pool: p, flags: [quic, hash_no_source_port, no_flow_table, udp_flow_migration] }]`;
	assert.deepEqual(missingFeatures(parseConfig(text, 'lb.yaml')), []);
});

test('what this version lacks is named by key', () => {
	const text = `sources: { s: { kind: file, path: x }, e: { kind: etcd, layout: skydns } }
allowed_backends: any
pools: { p: { from: { source: s, service: a } } }
datapath: { interface: [eth0, eth1], tcp_server_id: true, source_routes: [{ prefixes: [10.0.0.0/8], backend: 10.0.0.1 }] }
vips: [{ address: "fc00:1::/96", port: 443, protocol: tcp, pool: p, flags: [source_routing] }]`;
	assert.deepEqual(
		missingFeatures(parseConfig(text, 'lb.yaml')).map(({ key }) => key),
		['datapath.interface', 'datapath.source_routes', 'sources.e.layout', 'vips[0].flags'],
	);
});
