// SPDX-License-Identifier: Apache-2.0
// Addresses and prefixes: one canonical text per host, and nothing accepted that another program would read otherwise.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
	address,
	addressBytes,
	compareAddresses,
	familyOf,
	formatAddress,
	formatPrefix,
	mappedBytes,
	parseAddress,
	parsePrefix,
	prefixContains,
} from '../../src/model/address.ts';

const bytesOf = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });

test('an address has one text, whatever it was written as', () => {
	for (const [text, canonical] of [
		['10.0.0.1', '10.0.0.1'],
		['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
		['2001:0db8::0001', '2001:db8::1'],
		['::ffff:10.0.0.1', '10.0.0.1'],
		['::ffff:a00:1', '10.0.0.1'],
		['0:0:0:0:0:0:0:0', '::'],
		['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
		['1:0:0:2:3:0:0:4', '1::2:3:0:0:4'],
		['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
		['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
	] as const)
		assert.equal(parseAddress(text), canonical, text);
});

test('spellings that other programs read as another address are refused', () => {
	for (const text of [
		'010.0.0.1',
		'0x0a000001',
		'10.1',
		'10.0.0.1 ',
		' 10.0.0.1',
		'10.0.0.256',
		'fe80::1%eth0',
		'[::1]',
		'',
		'::1::',
		'host',
	])
		assert.equal(parseAddress(text), undefined, JSON.stringify(text));
	assert.throws(() => address('10.1'), TypeError);
});

test('bytes become text and back', () => {
	fc.assert(
		fc.property(fc.oneof(bytesOf(4), bytesOf(16)), (bytes) => {
			const text = formatAddress(bytes);
			assert.equal(parseAddress(text), text);
			assert.deepEqual([...mappedBytes(text)].slice(16 - bytes.length), [...bytes]);
			assert.equal(familyOf(text), addressBytes(text).length === 4 ? 4 : 6);
		}),
	);
});

test('any other number of bytes is no address', () => {
	for (const length of [0, 3, 5, 15, 17]) assert.throws(() => formatAddress(new Uint8Array(length)), TypeError);
});

test('addresses are ordered by their mapped bytes, so that both families have one order', () => {
	const sorted = ['2001:db8::1', '255.255.255.255', '10.0.0.10', '10.0.0.9', '::1'].map(address).sort(compareAddresses);
	assert.deepEqual(sorted, ['::1', '10.0.0.9', '10.0.0.10', '255.255.255.255', '2001:db8::1']);
});

test('the host bits of a prefix are cleared', () => {
	for (const [text, canonical] of [
		['10.1.2.3/8', '10.0.0.0/8'],
		['10.1.2.3', '10.1.2.3/32'],
		['10.1.2.3/31', '10.1.2.2/31'],
		['0.0.0.0/0', '0.0.0.0/0'],
		['2001:db8:ffff::1/33', '2001:db8:8000::/33'],
		['fd00::1', 'fd00::1/128'],
	] as const) {
		const prefix = parsePrefix(text);
		assert.ok(prefix, text);
		assert.equal(formatPrefix(prefix), canonical);
	}
});

test('a prefix that is not exactly one is refused', () => {
	for (const text of ['10.0.0.0/33', '10.0.0.0/08', '10.0.0.0/', '10.0.0.0/-1', '::/129', '10.0.0/8', '/8', '10.0.0.0/8/8'])
		assert.equal(parsePrefix(text), undefined, text);
});

test('a prefix holds the addresses of its own family that share its bits', () => {
	const prefix = parsePrefix('10.0.0.0/15');
	assert.ok(prefix);
	assert.equal(prefixContains(prefix, address('10.1.255.255')), true);
	assert.equal(prefixContains(prefix, address('10.2.0.0')), false);
	const all = parsePrefix('0.0.0.0/0');
	assert.ok(all);
	assert.equal(prefixContains(all, address('::1')), false);
});
