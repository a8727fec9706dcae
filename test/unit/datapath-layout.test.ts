// SPDX-License-Identifier: Apache-2.0
// The check of an object's BTF against the generated codecs, on objects made here; and the constants that options
// become.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as abi from '../../src/datapath/abi.gen.ts';
import { checkLayout, readBtf } from '../../src/datapath/btf.ts';
import { DEFAULT_LIMITS, DEFAULT_OPTIONS, mapEntries, optionsHash, programConfig, ringBytes, vipBits } from '../../src/datapath/options.ts';
import { isXdpilotError } from '../../src/errors.ts';
import { address } from '../../src/model/address.ts';

const KIND = { int: 1, array: 3, struct: 4, enum: 6, func: 12 } as const;

interface TypeSpec {
	readonly kind: number;
	readonly name: string;
	readonly size?: number;
	/** Members (name, byte offset) or enumerators (name, value). */
	readonly list?: readonly (readonly [string, number])[];
}

/** An ELF file with a BTF section of these types; their order and ids do not matter to the reader. */
function objectOf(types: readonly TypeSpec[], sectionName = '.BTF'): Uint8Array {
	const strings: number[] = [0];
	const stringAt = (text: string) => strings.push(...Buffer.from(`${text}\0`)) - text.length - 1;
	const words = types.flatMap(({ kind, name, size = 4, list = [] }) => {
		const head = [stringAt(name), (kind << 24) | list.length, size];
		if (kind === KIND.int) return [...head, 32];
		if (kind === KIND.array) return [...head, 1, 1, 4];
		if (kind === KIND.struct) return [...head, ...list.flatMap(([n, offset]) => [stringAt(n), 1, 8 * offset])];
		return [...head, ...list.flatMap(([n, value]) => [stringAt(n), value])];
	});
	const header = Buffer.alloc(24);
	header.writeUInt16LE(0xeb9f, 0);
	header.writeUInt32LE(24, 4);
	header.writeUInt32LE(4 * words.length, 12);
	header.writeUInt32LE(4 * words.length, 16);
	header.writeUInt32LE(strings.length, 20);
	return elfOf(sectionName, Buffer.concat([header, Buffer.from(Int32Array.from(words).buffer), Buffer.from(strings)]));
}

function elfOf(name: string, content: Buffer): Uint8Array {
	const names = Buffer.from(`\0${name}\0.shstrtab\0`);
	const headersAt = 64 + content.length + names.length;
	const out = Buffer.alloc(headersAt + 3 * 64);
	out.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
	out.writeBigUInt64LE(BigInt(headersAt), 40);
	for (const [at, value] of [
		[58, 64],
		[60, 3],
		[62, 2],
	] as const)
		out.writeUInt16LE(value, at);
	content.copy(out, 64);
	names.copy(out, 64 + content.length);
	for (const [i, nameAt, offset, size] of [
		[1, 1, 64, content.length],
		[2, name.length + 2, 64 + content.length, names.length],
	] as const) {
		out.writeUInt32LE(nameAt, headersAt + 64 * i);
		out.writeBigUInt64LE(BigInt(offset), headersAt + 64 * i + 24);
		out.writeBigUInt64LE(BigInt(size), headersAt + 64 * i + 32);
	}
	return out;
}

const snake = (name: string) => name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);

/** All structs of the generated code, as an object of this build would have them. */
function generatedStructs(): TypeSpec[] {
	return Object.entries(abi).flatMap(([key, offsets]) => {
		if (!key.endsWith('_OFFSET')) return [];
		const name = key.slice(0, -'_OFFSET'.length);
		const size: unknown = Reflect.get(abi, `${name}_SIZE`);
		const list = Object.entries(offsets as Record<string, number>).map(([m, offset]) => [snake(m), offset] as const);
		return [{ kind: KIND.struct, name: name.toLowerCase(), size: Number(size), list: [...list, ['pad', Number(size) - 1] as const] }];
	});
}

const mismatch = (text: string) => (e: unknown) => isXdpilotError(e) && e.code === 'E_ABI_MISMATCH' && e.message.includes(text);

test('an object with the layouts of the generated code is accepted', () => {
	checkLayout(objectOf(generatedStructs()));
});

test('types of other kinds in between are stepped over', () => {
	const others = [
		{ kind: KIND.int, name: 'int' },
		{ kind: KIND.array, name: '' },
		{ kind: KIND.func, name: 'lb' },
	];
	const { structs } = readBtf(
		objectOf([
			...others,
			{
				kind: KIND.struct,
				name: 'one',
				size: 8,
				list: [
					['a', 0],
					['b', 4],
				],
			},
			...others,
		]),
	);
	assert.deepEqual(
		[...(structs.get('one')?.offsets ?? [])],
		[
			['a', 0],
			['b', 4],
		],
	);
});

test('a struct of another size, a member elsewhere, a struct missing: each is named', () => {
	const structs = generatedStructs();
	const backend = structs.find((s) => s.name === 'backend');
	assert.ok(backend?.list);
	const others = structs.filter((s) => s !== backend);
	assert.throws(() => checkLayout(objectOf([...others, { ...backend, size: 72 }])), mismatch('struct backend has 72 bytes'));
	const moved = backend.list.map(([n, offset]) => [n, n === 'weight' ? offset + 4 : offset] as const);
	assert.throws(() => checkLayout(objectOf([...others, { ...backend, list: moved }])), mismatch('struct backend'));
	assert.throws(() => checkLayout(objectOf(others)), mismatch('struct backend is missing'));
});

test('an enum with other values is named', () => {
	const values = Object.entries(abi.LbDrop).map(([n, v]) => [n, v] as const);
	checkLayout(objectOf([...generatedStructs(), { kind: KIND.enum, name: 'lb_drop', list: values }]));
	const more = [...values, ['DROP_OTHER', 99] as const];
	assert.throws(
		() => checkLayout(objectOf([...generatedStructs(), { kind: KIND.enum, name: 'lb_drop', list: more }])),
		mismatch('enum lb_drop'),
	);
});

test('what is no object, or has no BTF, is refused', () => {
	assert.throws(
		() => checkLayout(Buffer.from('not an object, but long enough to look at as one: sixty-four bytes')),
		mismatch('no little-endian ELF-64'),
	);
	assert.throws(() => checkLayout(objectOf([], '.text')), mismatch('no section .BTF'));
});

const CLOCK = { hz: 250, shift: 4 };
const KEY = new Array<bigint>(24).fill(3n);

test("the defaults give Katran's seeds and the documented sizes", () => {
	const config = programConfig(DEFAULT_OPTIONS, CLOCK, KEY, 2);
	assert.deepEqual([config.hashSeed, config.hashSeed6], [33_554_944, 512]);
	assert.equal(config.udpIdle, 469);
	assert.equal(config.flowBuckets, 500_000);
	const entries = mapEntries(DEFAULT_OPTIONS, 2);
	assert.deepEqual([entries.rings, entries.backends, entries.vip_counters], [4099, 32_769, 2 * 4097]);
	assert.equal(ringBytes(DEFAULT_LIMITS), 8 + 2 * 65_538 + 4 * 4096);
});

test('a secret of the fleet replaces the seeds, equally on every host', () => {
	const secret = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
	const seeds = () => programConfig({ ...DEFAULT_OPTIONS, hashSecret: secret }, CLOCK, KEY, 2);
	assert.deepEqual([seeds().hashSeed, seeds().hashSeed6], [seeds().hashSeed, seeds().hashSeed6]);
	assert.notEqual(seeds().hashSeed, 33_554_944);
});

test('a flow table for each CPU divides the entries', () => {
	const options = { ...DEFAULT_OPTIONS, flowTable: 'per_cpu' as const, flowEntries: 8 * 100 };
	assert.equal(programConfig(options, CLOCK, KEY, 4).flowBuckets, 25);
	assert.equal(mapEntries(options, 4).flows, 100);
});

test('the hash of the options ignores the random key, and nothing else', () => {
	const hash = (over = {}, key = KEY) =>
		Buffer.from(optionsHash(programConfig({ ...DEFAULT_OPTIONS, ...over }, CLOCK, key, 2))).toString('hex');
	assert.equal(hash(), hash({}, new Array<bigint>(24).fill(9n)));
	const gue = { port: 6081, source4: address('192.0.2.1'), source6: null };
	for (const over of [{ maxFrame: 1500 }, { tooBig: 'drop' }, { udpIdleMs: 60_000 }, { serverIds: true }, { newFlowLimit: 1 }, { gue }]) {
		assert.notEqual(hash(over), hash(), JSON.stringify(over));
	}
});

test('there are at least two buckets for each vip', () => {
	for (const maxVips of [1, 4, 512, 4096, 65_534]) assert.ok(2 ** vipBits({ ...DEFAULT_LIMITS, maxVips }) >= 2 * maxVips);
});
