// SPDX-License-Identifier: Apache-2.0
// Reads structs and enums out of the BTF section of a BPF object, and compares them with the generated codecs
// before anything is loaded: an object of another build is refused, not misread. Formats: ELF-64 little-endian,
// https://docs.kernel.org/bpf/btf.html.
import { XdpilotError } from '../errors.ts';
import * as abi from './abi.gen.ts';

export interface BtfStruct {
	readonly size: number;
	/** Byte offsets by member name. */
	readonly offsets: ReadonlyMap<string, number>;
}

export interface BtfTypes {
	readonly structs: ReadonlyMap<string, BtfStruct>;
	/** Values by name, for each named enum. */
	readonly enums: ReadonlyMap<string, ReadonlyMap<string, number>>;
}

const BTF_MAGIC = 0xeb9f;
const KIND = {
	int: 1,
	array: 3,
	struct: 4,
	union: 5,
	enum: 6,
	funcProto: 13,
	variable: 14,
	dataSection: 15,
	declTag: 17,
	enum64: 19,
} as const;

/** @throws XdpilotError E_ABI_MISMATCH naming the first difference between the object and the generated code */
export function checkLayout(object: Uint8Array): void {
	const { structs, enums } = readBtf(object);
	for (const [key, value] of Object.entries(abi)) {
		if (key.endsWith('_OFFSET')) compareStruct(structs, key.slice(0, -'_OFFSET'.length).toLowerCase(), value);
	}
	for (const [name, values] of enums) compareEnum(name, values);
}

/** Structs and enums of an object. @throws XdpilotError E_ABI_MISMATCH when it has no readable BTF */
export function readBtf(object: Uint8Array): BtfTypes {
	const section = elfSection(object, '.BTF');
	const view = new DataView(section.buffer, section.byteOffset, section.byteLength);
	if (section.length < 24 || view.getUint16(0, true) !== BTF_MAGIC) throw mismatch('the object has no BTF');
	const header = view.getUint32(4, true);
	const typesAt = header + view.getUint32(8, true);
	const typesEnd = typesAt + view.getUint32(12, true);
	const stringsAt = header + view.getUint32(16, true);
	const nameAt = (offset: number) => text(section, stringsAt + offset);
	const structs = new Map<string, BtfStruct>();
	const enums = new Map<string, ReadonlyMap<string, number>>();
	for (let at = typesAt; at < typesEnd; ) {
		const name = nameAt(view.getUint32(at, true));
		const info = view.getUint32(at + 4, true);
		const [kind, count] = [(info >>> 24) & 31, info & 0xffff];
		const body = at + 12;
		if (kind === KIND.struct && name !== '')
			structs.set(name, { size: view.getUint32(at + 8, true), offsets: members(view, body, count, nameAt) });
		if (kind === KIND.enum && name !== '') enums.set(name, enumerators(view, body, count, nameAt));
		at = body + bodyBytes(kind, count);
	}
	return { structs, enums };
}

function members(view: DataView, at: number, count: number, nameAt: (offset: number) => string): Map<string, number> {
	const found = new Map<string, number>();
	for (let i = 0; i < count; i++)
		found.set(nameAt(view.getUint32(at + 12 * i, true)), (view.getUint32(at + 12 * i + 8, true) & 0xffffff) / 8);
	return found;
}

function enumerators(view: DataView, at: number, count: number, nameAt: (offset: number) => string): Map<string, number> {
	const found = new Map<string, number>();
	for (let i = 0; i < count; i++) found.set(nameAt(view.getUint32(at + 8 * i, true)), view.getInt32(at + 8 * i + 4, true));
	return found;
}

/** Bytes that follow the 12 common ones of a type. */
function bodyBytes(kind: number, count: number): number {
	if (kind === KIND.int || kind === KIND.variable || kind === KIND.declTag) return 4;
	if (kind === KIND.array) return 12;
	if (kind === KIND.struct || kind === KIND.union || kind === KIND.dataSection || kind === KIND.enum64) return 12 * count;
	return kind === KIND.enum || kind === KIND.funcProto ? 8 * count : 0;
}

function compareStruct(structs: ReadonlyMap<string, BtfStruct>, name: string, expected: unknown): void {
	const found = structs.get(name);
	const size: unknown = Reflect.get(abi, `${name.toUpperCase()}_SIZE`);
	if (!found) throw mismatch(`struct ${name} is missing in the object`);
	if (found.size !== size) throw mismatch(`struct ${name} has ${found.size} bytes in the object, ${size} in the generated code`);
	const offsets = Object.fromEntries([...found.offsets].filter(([m]) => !/^pad\d*$/.test(m)).map(([m, offset]) => [camel(m), offset]));
	if (JSON.stringify(offsets) !== JSON.stringify(expected)) {
		throw mismatch(`struct ${name} is ${JSON.stringify(offsets)} in the object, ${JSON.stringify(expected)} in the generated code`);
	}
}

function compareEnum(name: string, values: ReadonlyMap<string, number>): void {
	const expected: unknown = Reflect.get(
		abi,
		camel(name).replace(/^./, (c) => c.toUpperCase()),
	);
	if (expected === undefined) return;
	const found = JSON.stringify(Object.fromEntries(values));
	if (found !== JSON.stringify(expected))
		throw mismatch(`enum ${name} is ${found} in the object, ${JSON.stringify(expected)} in the generated code`);
}

function elfSection(object: Uint8Array, wanted: string): Uint8Array {
	const view = new DataView(object.buffer, object.byteOffset, object.byteLength);
	const isElf = object.length > 64 && view.getUint32(0, false) === 0x7f454c46 && object[4] === 2 && object[5] === 1;
	if (!isElf) throw mismatch('the object is no little-endian ELF-64 file');
	const table = Number(view.getBigUint64(40, true));
	const [size, count, names] = [view.getUint16(58, true), view.getUint16(60, true), view.getUint16(62, true)];
	const section = (i: number) => {
		const at = table + i * size;
		return {
			name: view.getUint32(at, true),
			offset: Number(view.getBigUint64(at + 24, true)),
			size: Number(view.getBigUint64(at + 32, true)),
		};
	};
	const strings = section(names);
	for (let i = 0; i < count; i++) {
		const { name, offset, size: bytes } = section(i);
		if (text(object, strings.offset + name) === wanted) return object.subarray(offset, offset + bytes);
	}
	throw mismatch(`the object has no section ${wanted}`);
}

function text(bytes: Uint8Array, at: number): string {
	return Buffer.from(bytes.subarray(at, bytes.indexOf(0, at))).toString('latin1');
}

const camel = (name: string) => name.replace(/_([a-z0-9])/g, (_, c: string) => c.toUpperCase());

function mismatch(message: string): XdpilotError {
	return new XdpilotError('E_ABI_MISMATCH', message, { unaffected: 'nothing was loaded', hint: 'build everything again: npm run setup' });
}
