// SPDX-License-Identifier: Apache-2.0
// The vips as packets see them: two tables of buckets in mapped memory, one of them live. A change builds the other
// one whole and flips one word. The invariant: the table that packets may still be reading is never written; the
// caller keeps it by awaiting a grace period between two calls of write().
import { type Address, addressBytes, familyOf, formatAddress } from '../model/address.ts';
import { PROTOCOL_NUMBER, type Protocol, VIP_FLAGS, type Vip, vipKey } from '../model/vip.ts';
import {
	CONTROL_OFFSET,
	decodeVip4Entry,
	decodeVip6Entry,
	decodeVipSeed,
	encodeVip4Entry,
	encodeVip6Entry,
	encodeVipSeed,
	VIP_SEED_OFFSET,
	VIP_SEED_SIZE,
	VIP4_BUCKET_SIZE,
	VIP4_ENTRY_SIZE,
	VIP6_BUCKET_SIZE,
	VIP6_ENTRY_SIZE,
	VipFlag as VipFlagBits,
	VipKind,
} from './abi.gen.ts';
import { bucketOf, type Hashing, type Placement, placeKeys, type TableShape } from './vip-buckets.ts';

/** A used slot, as the program finds it. */
export interface VipRow {
	readonly address: Address;
	/** Bits of the prefix; all of them for a vip that is one address. */
	readonly length: number;
	/** 0 = every port */
	readonly port: number;
	/** IANA number. */
	readonly protocol: number;
	/** Dense number of the vip, 1.. */
	readonly number: number;
	/** Number of the pool. */
	readonly pool: number;
	/** Bits of enum vip_flag. */
	readonly flags: number;
}

export interface VipMemory {
	readonly control: ArrayBuffer;
	readonly vips4: ArrayBuffer;
	readonly vips6: ArrayBuffer;
}

interface Key {
	readonly kind: number;
	readonly bytes: Uint8Array;
	readonly words: readonly bigint[];
}

interface FamilyTable {
	readonly family: 4 | 6;
	readonly memory: ArrayBuffer;
	readonly bucketSize: number;
	readonly entrySize: number;
	readonly shape: TableShape;
}

export class VipTable {
	readonly #control: DataView;
	readonly #active: Int32Array;
	readonly #v4: FamilyTable;
	readonly #v6: FamilyTable;
	readonly #bits: number;
	readonly #drawSeed: () => bigint;

	/** `bits`: log2 of the buckets of one table. `drawSeed`: 64 secret random bits. */
	constructor(memory: VipMemory, bits: number, drawSeed: () => bigint) {
		this.#control = new DataView(memory.control);
		this.#active = new Int32Array(memory.control, CONTROL_OFFSET.activeVips, 1);
		const groups = (VIP_SEED_OFFSET.move6 - VIP_SEED_OFFSET.move4) / 2;
		const shape = (words: number, bucketSize: number, entrySize: number) => ({ bits, ways: bucketSize / entrySize, words, groups });
		const four = { bucketSize: VIP4_BUCKET_SIZE, entrySize: VIP4_ENTRY_SIZE, shape: shape(1, VIP4_BUCKET_SIZE, VIP4_ENTRY_SIZE) };
		const six = { bucketSize: VIP6_BUCKET_SIZE, entrySize: VIP6_ENTRY_SIZE, shape: shape(3, VIP6_BUCKET_SIZE, VIP6_ENTRY_SIZE) };
		this.#v4 = { ...four, family: 4, memory: memory.vips4 };
		this.#v6 = { ...six, family: 6, memory: memory.vips6 };
		this.#bits = bits;
		this.#drawSeed = drawSeed;
	}

	/** The vips of the live table, in no particular order. */
	read(): VipRow[] {
		return [...this.#readFamily(this.#v4), ...this.#readFamily(this.#v6)];
	}

	/** What the program finds for exactly this address, port and protocol. */
	lookup(address: Address, port: number, protocol: number): VipRow | undefined {
		const table = familyOf(address) === 4 ? this.#v4 : this.#v6;
		const wanted = makeKey({ address, port, protocol, number: 0, pool: 0, flags: 0 }, VipKind.VIP_KIND_VIP);
		const bucket = bucketOf(wanted.words, this.#hashing(table, this.#live()), table.shape);
		const base = this.#base(table, this.#live()) + bucket * table.bucketSize;
		for (let at = base; at < base + table.bucketSize; at += table.entrySize) {
			const row = decodeRow(table, at);
			if (row?.address === address && row.port === port && row.protocol === protocol) return row;
		}
		return undefined;
	}

	/**
	 * Makes exactly these rows the live ones. Packets in flight may read the old table until a grace period has
	 * passed; until then write() must not be called again. @throws XdpilotError E_LIMIT when they don't fit; nothing changed
	 */
	write(rows: readonly VipRow[]): void {
		const live = this.#live();
		const next = 1 - live;
		const placed = [this.#v4, this.#v6].map((table) => {
			const keys = keysOf(rows.filter((row) => familyOf(row.address) === table.family));
			const words = keys.map((k) => k.words);
			return { table, keys, placement: placeKeys(words, table.shape, this.#hashing(table, live).seeds, this.#drawSeed) };
		});
		for (const { table, keys, placement } of placed) {
			fill(table, this.#base(table, next), keys, placement);
			this.#setHashing(table, next, placement);
		}
		Atomics.store(this.#active, 0, next);
	}

	#live(): number {
		return Atomics.load(this.#active, 0) & 1;
	}

	#base(table: FamilyTable, which: number): number {
		return which * 2 ** this.#bits * table.bucketSize;
	}

	#hashing({ family }: FamilyTable, which: number): Hashing {
		const { seed4, seed6, move4, move6 } = decodeVipSeed(this.#control, CONTROL_OFFSET.vipSeed + which * VIP_SEED_SIZE);
		return family === 4 ? { seeds: [seed4], moves: move4 } : { seeds: seed6, moves: move6 };
	}

	#setHashing({ family }: FamilyTable, which: number, { seeds, moves }: Hashing): void {
		const at = CONTROL_OFFSET.vipSeed + which * VIP_SEED_SIZE;
		const before = decodeVipSeed(this.#control, at);
		const [seed4 = 1n] = seeds;
		encodeVipSeed(this.#control, at, family === 4 ? { ...before, seed4, move4: moves } : { ...before, seed6: seeds, move6: moves });
	}

	#readFamily(table: FamilyTable): VipRow[] {
		const rows: VipRow[] = [];
		const base = this.#base(table, this.#live());
		const end = base + 2 ** this.#bits * table.bucketSize;
		for (let at = base; at < end; at += table.entrySize) {
			const row = decodeRow(table, at);
			if (row) rows.push(row);
		}
		return rows;
	}
}

/** The row of a vip. */
export function rowOf(vip: Vip, number: number, pool: number): VipRow {
	const flags = vip.flags.reduce((bits, flag) => bits | VipFlagBits[`VIP_${flag.toUpperCase() as Uppercase<typeof flag>}`], 0);
	return { ...vip.prefix, port: vip.port, protocol: PROTOCOL_NUMBER[vip.protocol], number, pool, flags };
}

/** The vip of a row, served by the pool of this name. */
export function vipOf(row: VipRow, pool: string): Vip {
	const protocol: Protocol = row.protocol === PROTOCOL_NUMBER.udp ? 'udp' : 'tcp';
	const flags = VIP_FLAGS.filter((flag) => row.flags & VipFlagBits[`VIP_${flag.toUpperCase() as Uppercase<typeof flag>}`]);
	return { prefix: { address: row.address, length: row.length }, port: row.port, protocol, pool, flags };
}

/** vipKey() of a row. */
export function rowKey(row: VipRow): string {
	return vipKey(vipOf(row, ''));
}

/** Every vip, and every address of a vip once. */
function keysOf(rows: readonly VipRow[]): Key[] {
	const addresses = [...new Set(rows.map((row) => row.address))];
	return [
		...rows.map((row) => makeKey(row, VipKind.VIP_KIND_VIP)),
		...addresses.map((address) => makeKey({ address, port: 0, protocol: 0, number: 0, pool: 0, flags: 0 }, VipKind.VIP_KIND_ADDRESS)),
	];
}

function makeKey(row: Omit<VipRow, 'length'>, kind: number): Key {
	const family = familyOf(row.address);
	const bytes = new Uint8Array(family === 4 ? VIP4_ENTRY_SIZE : VIP6_ENTRY_SIZE);
	const view = new DataView(bytes.buffer);
	const { port, protocol, pool, flags, number } = row;
	const common = { port, protocol, kind, vip: number, pool, flags };
	if (family === 4) {
		encodeVip4Entry(view, 0, { ...common, address: new DataView(addressBytes(row.address).buffer).getUint32(0) });
		return { kind, bytes, words: [view.getBigUint64(0, true)] };
	}
	encodeVip6Entry(view, 0, { ...common, address: addressBytes(row.address) });
	return { kind, bytes, words: [view.getBigUint64(0, true), view.getBigUint64(8, true), BigInt(view.getUint32(16, true))] };
}

function fill(table: FamilyTable, base: number, keys: readonly Key[], placement: Placement): void {
	const bytes = new Uint8Array(table.memory, base, 2 ** table.shape.bits * table.bucketSize);
	bytes.fill(0);
	const used = new Map<number, number>();
	for (const [i, key] of keys.entries()) {
		const bucket = placement.buckets[i] ?? 0;
		const way = used.get(bucket) ?? 0;
		used.set(bucket, way + 1);
		bytes.set(key.bytes, bucket * table.bucketSize + way * table.entrySize);
	}
}

function decodeRow({ memory, family }: FamilyTable, at: number): VipRow | undefined {
	const view = new DataView(memory);
	const entry = family === 4 ? decodeVip4Entry(view, at) : decodeVip6Entry(view, at);
	if (entry.kind !== VipKind.VIP_KIND_VIP) return undefined;
	const address = typeof entry.address === 'number' ? ipv4(entry.address) : formatAddress(entry.address);
	const length = family === 4 ? 32 : 128;
	return { address, length, port: entry.port, protocol: entry.protocol, number: entry.vip, pool: entry.pool, flags: entry.flags };
}

function ipv4(host: number): Address {
	return formatAddress(Uint8Array.of(host >>> 24, (host >>> 16) & 255, (host >>> 8) & 255, host & 255));
}
