// SPDX-License-Identifier: Apache-2.0
// The vips that are prefixes, as packets see them: a longest-prefix-match trie, written entry by entry. A change is
// made in two steps around the flip of the other vips: put() what is new, prune() what is not wanted any more. The
// invariant: an address has no moment without any of its vips.
import { type Address, addressBytes, familyOf, formatAddress } from '../model/address.ts';
import { isHost } from '../model/vip.ts';
import type { BpfMap } from '../native/addon.d.ts';
import {
	decodeVipPrefix,
	decodeVipPrefixKey,
	encodeVipPrefix,
	encodeVipPrefixKey,
	VIP_PREFIX_KEY_OFFSET,
	VIP_PREFIX_KEY_SIZE,
	VIP_PREFIX_SIZE,
	VipFlag,
	VipKind,
} from './abi.gen.ts';
import { kernelCall } from './kernel-error.ts';
import type { VipRow } from './vip-table.ts';

/** Bits of a key before the address: port, protocol and kind. */
const HEAD_BITS = 8 * (VIP_PREFIX_KEY_OFFSET.address - VIP_PREFIX_KEY_OFFSET.port);
/** A vip has its own entry and at most one for its addresses; while a change is made, old and new ones are there. */
const ENTRIES_PER_VIP = 4;

/** max_entries of the trie, which takes memory only for what is in it. */
export function prefixEntries(maxVips: number): number {
	return ENTRIES_PER_VIP * (maxVips + 1);
}

export class VipPrefixes {
	readonly #map: BpfMap;
	/** What the trie holds, by key. */
	#entries = new Map<string, Uint8Array>();
	#rows: readonly VipRow[] = [];

	constructor(map: BpfMap) {
		this.#map = map;
	}

	/** Takes over what an earlier daemon left; returns the vips. */
	read(): VipRow[] {
		const rows: VipRow[] = [];
		for (let key = this.#map.nextKey(); key !== undefined; key = this.#map.nextKey(key)) {
			const value = this.#map.lookup(key);
			if (value === undefined) continue;
			this.#entries.set(hex(key), value);
			const row = decodeRow(key, value);
			if (row) rows.push(row);
		}
		this.#rows = rows;
		return rows;
	}

	/** What the program finds for this address, port and protocol among prefixes. */
	lookup(address: Address, port: number, protocol: number): VipRow | undefined {
		if (this.#rows.length === 0) return undefined;
		const length = 8 * addressBytes(address).length;
		const value = this.#map.lookup(keyOf({ address, length, port, protocol }, VipKind.VIP_KIND_VIP));
		if (value === undefined) return undefined;
		const { vip } = decodeVipPrefix(viewOf(value));
		return this.#rows.find((row) => row.number === vip);
	}

	/** Adds and changes; returns what undoes it. @throws XdpilotError; nothing changed */
	put(rows: readonly VipRow[]): () => void {
		const undo: (() => void)[] = [];
		const undoAll = () => {
			for (const step of undo.reverse()) step();
		};
		try {
			for (const [key, value] of entriesOf(rows)) {
				const before = this.#entries.get(key);
				if (before !== undefined && Buffer.compare(before, value) === 0) continue;
				this.#set(key, value);
				undo.push(before === undefined ? () => this.#delete(key) : () => this.#set(key, before));
			}
		} catch (e) {
			undoAll();
			throw e;
		}
		return undoAll;
	}

	/** Removes everything but these rows, which were put. */
	prune(rows: readonly VipRow[]): void {
		const wanted = entriesOf(rows);
		for (const key of [...this.#entries.keys()].filter((k) => !wanted.has(k))) this.#delete(key);
		this.#rows = rows;
	}

	#set(key: string, value: Uint8Array): void {
		kernelCall('write a vip prefix', () => this.#map.update(Buffer.from(key, 'hex'), value));
		this.#entries.set(key, value);
	}

	#delete(key: string): void {
		kernelCall('remove a vip prefix', () => this.#map.delete(Buffer.from(key, 'hex')));
		this.#entries.delete(key);
	}
}

/** Whether a row belongs here and not into the vip table. */
export function isPrefixRow(row: VipRow): boolean {
	return !isHost(row);
}

/** Every vip, and every prefix of a vip once, by key. */
function entriesOf(rows: readonly VipRow[]): Map<string, Uint8Array> {
	const entries = new Map<string, Uint8Array>();
	for (const row of rows) {
		entries.set(hex(keyOf(row, VipKind.VIP_KIND_VIP)), entryValue(row.number, row.pool, row.flags | VipFlag.VIP_PREFIX));
		entries.set(hex(keyOf({ ...row, port: 0, protocol: 0 }, VipKind.VIP_KIND_ADDRESS)), entryValue(0, 0, 0));
	}
	return entries;
}

function keyOf(row: Pick<VipRow, 'address' | 'length' | 'port' | 'protocol'>, kind: number): Uint8Array {
	const key = new Uint8Array(VIP_PREFIX_KEY_SIZE);
	const address = new Uint8Array(16);
	address.set(addressBytes(row.address));
	encodeVipPrefixKey(new DataView(key.buffer), 0, {
		length: HEAD_BITS + row.length,
		port: row.port,
		protocol: row.protocol,
		kind: kind | (familyOf(row.address) === 6 ? VipKind.VIP_KIND_IPV6 : 0),
		address,
	});
	return key;
}

function entryValue(vip: number, pool: number, flags: number): Uint8Array {
	const value = new Uint8Array(VIP_PREFIX_SIZE);
	encodeVipPrefix(new DataView(value.buffer), 0, { vip, pool, flags });
	return value;
}

function decodeRow(key: Uint8Array, value: Uint8Array): VipRow | undefined {
	const { length, port, protocol, kind, address } = decodeVipPrefixKey(viewOf(key));
	const { vip, pool, flags } = decodeVipPrefix(viewOf(value));
	const isIpv6 = (kind & VipKind.VIP_KIND_IPV6) !== 0;
	if ((kind & ~VipKind.VIP_KIND_IPV6) !== VipKind.VIP_KIND_VIP) return undefined;
	return {
		address: formatAddress(address.slice(0, isIpv6 ? 16 : 4)),
		length: length - HEAD_BITS,
		port,
		protocol,
		number: vip,
		pool,
		flags: flags & ~VipFlag.VIP_PREFIX,
	};
}

function viewOf(bytes: Uint8Array): DataView {
	return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function hex(bytes: Uint8Array): string {
	return Buffer.from(bytes).toString('hex');
}
