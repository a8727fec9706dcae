// SPDX-License-Identifier: Apache-2.0
// Generates src/datapath/abi.gen.ts from the BTF of build/bpf/lb.bpf.o: sizes, offsets, codecs, enums and maps.
// bpf/lb_abi.h, counters_abi.h and config.h stay the only places where a layout is written; CI regenerates and compares.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const OBJECT = fileURLToPath(new URL('../build/bpf/lb.bpf.o', import.meta.url));
const OUTPUT = fileURLToPath(new URL('../src/datapath/abi.gen.ts', import.meta.url));

interface Member {
	readonly name: string;
	readonly type_id: number;
	readonly bits_offset: number;
}
interface BtfType {
	readonly id: number;
	readonly kind: string;
	readonly name: string;
	readonly size?: number;
	readonly type_id?: number;
	readonly nr_elems?: number;
	readonly members?: readonly Member[];
	readonly values?: readonly { readonly name: string; readonly val: number }[];
	readonly vars?: readonly { readonly type_id: number }[];
}
type Field =
	| { readonly kind: 'int'; readonly bytes: number; readonly bigEndian: boolean }
	| { readonly kind: 'bytes'; readonly length: number }
	| { readonly kind: 'struct'; readonly name: string; readonly size: number }
	| { readonly kind: 'array'; readonly of: Field; readonly length: number };
interface Struct {
	readonly name: string;
	readonly size: number;
	readonly fields: readonly { readonly name: string; readonly offset: number; readonly type: Field }[];
}
interface MapDef {
	readonly name: string;
	readonly type: number;
	readonly keySize: number;
	readonly valueSize: number;
	readonly maxEntries: number;
	readonly flags: number;
	readonly inner?: Omit<MapDef, 'name' | 'inner'>;
}

/** The types of one object, by id. */
class Btf {
	readonly types: ReadonlyMap<number, BtfType>;

	constructor(types: readonly BtfType[]) {
		this.types = new Map(types.map((t) => [t.id, t]));
	}

	get(id: number | undefined): BtfType {
		const t = this.types.get(id ?? -1);
		if (t === undefined) throw new Error(`BTF has no type ${id}`);
		return t;
	}

	/** The type behind typedefs and qualifiers, and the name of the outermost typedef. */
	resolve(id: number | undefined): { readonly type: BtfType; readonly typedef: string | null } {
		let typedef: string | null = null;
		let type = this.get(id);
		while (['TYPEDEF', 'CONST', 'VOLATILE', 'RESTRICT'].includes(type.kind)) {
			if (type.kind === 'TYPEDEF') typedef ??= type.name;
			type = this.get(type.type_id);
		}
		return { type, typedef };
	}

	section(name: string): readonly BtfType[] {
		const section = [...this.types.values()].find((t) => t.kind === 'DATASEC' && t.name === name);
		return (section?.vars ?? []).map((v) => this.get(v.type_id));
	}

	sizeOf(id: number | undefined): number {
		const { type } = this.resolve(id);
		if (type.kind === 'ARRAY') return (type.nr_elems ?? 0) * this.sizeOf(type.type_id);
		return type.size ?? 0;
	}
}

function fieldOf(btf: Btf, id: number): Field {
	const { type, typedef } = btf.resolve(id);
	if (type.kind === 'INT' || type.kind === 'ENUM') {
		return { kind: 'int', bytes: type.size ?? 0, bigEndian: typedef?.startsWith('__be') ?? false };
	}
	if (type.kind === 'STRUCT') return { kind: 'struct', name: type.name, size: type.size ?? 0 };
	if (type.kind === 'ARRAY') {
		const of = fieldOf(btf, type.type_id ?? -1);
		const length = type.nr_elems ?? 0;
		// Network-order arrays are addresses: bytes, not numbers.
		if (of.kind === 'int' && (of.bytes === 1 || of.bigEndian)) return { kind: 'bytes', length: length * of.bytes };
		return { kind: 'array', of, length };
	}
	throw new Error(`no codec for a ${type.kind} field`);
}

/** All structs reachable from `ids`, inner ones first. */
function collectStructs(btf: Btf, ids: readonly number[]): Struct[] {
	const found = new Map<string, Struct>();
	const visit = (id: number) => {
		const { type } = btf.resolve(id);
		if (type.kind === 'ARRAY') visit(type.type_id ?? -1);
		if (type.kind !== 'STRUCT' || found.has(type.name)) return;
		const members = type.members ?? [];
		for (const m of members) visit(m.type_id);
		const fields = members.map((m) => ({ name: m.name, offset: m.bits_offset / 8, type: fieldOf(btf, m.type_id) }));
		found.set(type.name, { name: type.name, size: type.size ?? 0, fields });
	};
	for (const id of ids) visit(id);
	return [...found.values()];
}

/** libbpf's map declarations: __uint(x, n) is a pointer to an array of n ints, __type(x, t) a pointer to t. */
function mapDef(btf: Btf, struct: BtfType): Omit<MapDef, 'name'> {
	const out = { type: 0, keySize: 0, valueSize: 0, maxEntries: 0, flags: 0 };
	let inner: Omit<MapDef, 'name' | 'inner'> | undefined;
	for (const m of struct.members ?? []) {
		const { type } = btf.resolve(m.type_id);
		const target = type.kind === 'PTR' ? btf.resolve(type.type_id).type : type;
		const number = target.nr_elems ?? 0;
		if (m.name === 'type') out.type = number;
		else if (m.name === 'max_entries') out.maxEntries = number;
		else if (m.name === 'map_flags') out.flags = number;
		else if (m.name === 'key_size') out.keySize = number;
		else if (m.name === 'value_size') out.valueSize = number;
		else if (m.name === 'key') out.keySize = btf.sizeOf(target.id);
		else if (m.name === 'value') out.valueSize = btf.sizeOf(target.id);
		else if (m.name === 'values') inner = mapDef(btf, btf.resolve(btf.resolve(target.type_id).type.type_id).type);
		else throw new Error(`unknown map property ${m.name}`);
	}
	return inner === undefined ? out : { ...out, keySize: out.keySize || 4, inner };
}

const pascal = (name: string) => name.replace(/(^|_)([a-z0-9])/g, (_, _sep: string, c: string) => c.toUpperCase());
const camel = (name: string) => pascal(name).replace(/^./, (c) => c.toLowerCase());
const isPadding = (name: string) => /^pad\d*$/.test(name);

function typeText(f: Field): string {
	if (f.kind === 'int') return f.bytes === 8 ? 'bigint' : 'number';
	if (f.kind === 'bytes') return 'Uint8Array';
	if (f.kind === 'struct') return pascal(f.name);
	return `readonly ${typeText(f.of)}[]`;
}

function accessor(f: Extract<Field, { kind: 'int' }>): { readonly name: string; readonly order: string } {
	const name = f.bytes === 8 ? 'BigUint64' : `Uint${8 * f.bytes}`;
	return { name, order: f.bytes === 1 ? '' : `, ${!f.bigEndian}` };
}

function widthOf(f: Field): number {
	if (f.kind === 'int') return f.bytes;
	if (f.kind === 'bytes') return f.length;
	return f.kind === 'struct' ? f.size : widthOf(f.of) * f.length;
}

function readText(f: Field, at: string): string {
	if (f.kind === 'struct') return `decode${pascal(f.name)}(view, ${at})`;
	if (f.kind === 'bytes') return `bytesAt(view, ${at}, ${f.length}).slice()`;
	if (f.kind === 'array') return `Array.from({ length: ${f.length} }, (_, i) => ${readText(f.of, `${at} + i * ${widthOf(f.of)}`)})`;
	const { name, order } = accessor(f);
	return `view.get${name}(${at}${order})`;
}

function writeText(f: Field, at: string, value: string): string {
	if (f.kind === 'struct') return `encode${pascal(f.name)}(view, ${at}, ${value});`;
	if (f.kind === 'bytes') return `setBytes(view, ${at}, ${f.length}, ${value});`;
	if (f.kind === 'array') {
		return `eachOf(${value}, ${f.length}, (x, i) => { ${writeText(f.of, `${at} + i * ${widthOf(f.of)}`, 'x')} });`;
	}
	const { name, order } = accessor(f);
	return `view.set${name}(${at}, ${value}${order});`;
}

function emitStruct(s: Struct): string {
	const name = pascal(s.name);
	const fields = s.fields.filter((f) => !isPadding(f.name));
	const at = (offset: number) => (offset === 0 ? 'at' : `at + ${offset}`);
	return `/** \`struct ${s.name}\` */
export interface ${name} {
${fields.map((f) => `\treadonly ${camel(f.name)}: ${typeText(f.type)};`).join('\n')}
}
export const ${s.name.toUpperCase()}_SIZE = ${s.size};
export const ${s.name.toUpperCase()}_OFFSET = { ${fields.map((f) => `${camel(f.name)}: ${f.offset}`).join(', ')} } as const;
export function decode${name}(view: DataView, at = 0): ${name} {
	return {
${fields.map((f) => `\t\t${camel(f.name)}: ${readText(f.type, at(f.offset))},`).join('\n')}
	};
}
/** Writes every byte; padding becomes zero. */
export function encode${name}(view: DataView, at: number, value: ${name}): void {
	bytesAt(view, at, ${s.size}).fill(0);
${fields.map((f) => `\t${writeText(f.type, at(f.offset), `value.${camel(f.name)}`)}`).join('\n')}
}
`;
}

function emitEnum(e: BtfType): string {
	const values = (e.values ?? []).map((v) => `\t${v.name}: ${v.val},`).join('\n');
	const text = `/** \`enum ${e.name}\` */\nexport const ${pascal(e.name)} = {\n${values}\n} as const;\n`;
	// Counters and drop reasons are reported by name: lower case, without prefix, in index order.
	if (e.name !== 'lb_counter' && e.name !== 'lb_drop') return text;
	const names = (e.values ?? []).filter((v) => !v.name.endsWith('_MAX')).map((v) => v.name.replace(/^[A-Z]+_/, '').toLowerCase());
	return `${text}export const ${e.name.toUpperCase()}_NAMES = ${JSON.stringify(names)} as const;\n`;
}

const HEAD = `// SPDX-License-Identifier: Apache-2.0
// Generated by scripts/gen-abi.ts from the BTF of bpf/lb.bpf.c. Do not edit: change bpf/lb_abi.h and run \`npm run gen\`.
// Numbers are unsigned; 64-bit fields are bigint; network-order fields are numbers in host sense, network-order
// arrays (IPv6 addresses) bytes. Padding is left out.

function bytesAt(view: DataView, at: number, length: number): Uint8Array {
	return new Uint8Array(view.buffer, view.byteOffset + at, length);
}
function setBytes(view: DataView, at: number, length: number, value: Uint8Array): void {
	if (value.length !== length) throw new RangeError(\`a field of \${length} bytes got \${value.length}\`);
	bytesAt(view, at, length).set(value);
}
function eachOf<T>(values: readonly T[], length: number, fn: (value: T, index: number) => void): void {
	if (values.length !== length) throw new RangeError(\`an array of \${length} elements got \${values.length}\`);
	values.forEach(fn);
}
`;

const byName = (a: { readonly name: string }, b: { readonly name: string }) => (a.name < b.name ? -1 : 1);

/** bpftool lies in an sbin that a user's PATH may lack. */
function bpftool(...args: string[]): string {
	const program = existsSync('/usr/sbin/bpftool') ? '/usr/sbin/bpftool' : 'bpftool';
	return execFileSync(program, args, { encoding: 'utf8', maxBuffer: 64 << 20 });
}

function main(): void {
	const btf = new Btf((JSON.parse(bpftool('-j', 'btf', 'dump', 'file', OBJECT)) as { types: BtfType[] }).types);
	const rodata = btf.section('.rodata');
	if (rodata.length !== 1) throw new Error(`.rodata must be exactly \`config\`, it has ${rodata.map((v) => v.name).join(', ')}`);
	const maps = btf
		.section('.maps')
		.map((v): MapDef => ({ name: v.name, ...mapDef(btf, btf.resolve(v.type_id).type) }))
		.sort(byName);
	const values = btf.section('.maps').flatMap((v) => btf.resolve(v.type_id).type.members?.filter((m) => m.name === 'value') ?? []);
	const roots = [...rodata, ...btf.section('.abi')].map((v) => btf.resolve(v.type_id).type.id);
	const structs = collectStructs(btf, [...values.map((m) => btf.resolve(m.type_id).type.type_id ?? -1), ...roots]);
	// By name: the order in the object follows the code, and the hash must not.
	const published = structs.filter((s) => s.name !== 'abi_types').sort(byName);
	const abiTypes = btf.section('.abi').flatMap((v) => btf.resolve(v.type_id).type.members ?? []);
	const enums = abiTypes
		.map((m) => btf.resolve(m.type_id).type)
		.filter((t) => t.kind === 'ENUM')
		.sort(byName);
	// max_entries are set before load; they are options, not layout.
	const layout = [published, enums.map((e) => [e.name, e.values]), maps.map((m) => ({ ...m, maxEntries: 0 }))];
	const hash = createHash('sha256').update(JSON.stringify(layout)).digest('hex');
	const text = [
		HEAD,
		`/** SHA-256 of everything below: two builds with the same hash understand each other's pinned maps. */\nexport const LAYOUT_HASH = '${hash}';\n`,
		...enums.map(emitEnum),
		...published.map(emitStruct),
		`/** Maps by name, as declared: max_entries and the ring's value size are set before load. */\nexport const MAPS = ${JSON.stringify(Object.fromEntries(maps.map(({ name, ...m }) => [name, m])), null, '\t')} as const;\nexport type MapName = keyof typeof MAPS;\n`,
	].join('\n');
	if (!existsSync(OUTPUT) || readFileSync(OUTPUT, 'utf8') !== text) writeFileSync(OUTPUT, text);
}

main();
