// SPDX-License-Identifier: Apache-2.0
// The backends as packets see them, one 64-byte entry each in mapped memory. The word `link` (gateway MAC, flags,
// state) is stored last when an entry is made, and alone, as one aligned 8-byte store, when anything changes:
// packets never see half a backend. An entry's address never changes while anything can mean its id.
import { type Address, addressBytes, familyOf, formatAddress } from '../model/address.ts';
import type { BackendState } from '../model/backend.ts';
import type { Encap } from '../model/pool.ts';
import { BACKEND_OFFSET, BACKEND_SIZE, BackendFlag, BackendState as Bits, decodeBackend } from './abi.gen.ts';

/** A used entry, decoded. */
export interface BackendEntry {
	readonly id: number;
	readonly address: Address;
	/** Pool number. */
	readonly pool: number;
	/** `retired`: unlinked, waits for a grace period and a sweep. */
	readonly state: BackendState | 'retired';
	readonly encap: Encap;
	readonly local: boolean;
	/** The address is this host's own: encapsulating towards it would loop. */
	readonly self: boolean;
	/** In the ring of its pool; 0 = not in it. Meaningful only where the pool's row is final. */
	readonly weight: number;
}

const STATE_BITS: Readonly<Record<BackendState, number>> = {
	active: Bits.BACKEND_ACTIVE,
	draining: Bits.BACKEND_DRAINING,
	down: Bits.BACKEND_DOWN,
};
const STATE_NAMES: readonly (BackendState | 'retired' | undefined)[] = [undefined, 'active', 'draining', 'down', 'retired'];
const MAC_BITS = (1n << 48n) - 1n;

export class BackendTable {
	readonly #view: DataView;
	/** The table as 64-bit words, for stores that packets see whole. */
	readonly #words: BigUint64Array;
	readonly #ownAddresses: ReadonlySet<Address>;
	readonly #entries: number;
	#gateway: bigint;

	/** `gateway`: 6 bytes. `ownAddresses`: of this host; sending to them would loop. */
	constructor(memory: ArrayBuffer, entries: number, gateway: Uint8Array, ownAddresses: ReadonlySet<Address>) {
		this.#view = new DataView(memory);
		this.#words = new BigUint64Array(memory, 0, (entries * BACKEND_SIZE) / 8);
		this.#entries = entries;
		this.#gateway = macBits(gateway);
		this.#ownAddresses = ownAddresses;
	}

	/** All used entries. */
	read(): BackendEntry[] {
		const found: BackendEntry[] = [];
		for (let id = 1; id < this.#entries; id++) {
			const entry = this.entry(id);
			if (entry) found.push(entry);
		}
		return found;
	}

	/** The entry of an id, or undefined when the id is free. */
	entry(id: number): BackendEntry | undefined {
		const link = this.#load(id);
		const state = STATE_NAMES[Number(link >> 56n)];
		if (id < 1 || id >= this.#entries || state === undefined) return undefined;
		const flags = Number((link >> 48n) & 0xffn);
		const raw = decodeBackend(this.#view, id * BACKEND_SIZE);
		const bytes = new Uint8Array(this.#view.buffer, id * BACKEND_SIZE + BACKEND_OFFSET.dst4, 4);
		return {
			id,
			address: formatAddress(flags & BackendFlag.BACKEND_IPV6 ? raw.dst6 : bytes),
			pool: raw.pool,
			state,
			encap: flags & BackendFlag.BACKEND_GUE ? 'gue' : 'ipip',
			local: (flags & BackendFlag.BACKEND_LOCAL) !== 0,
			self: (flags & BackendFlag.BACKEND_SELF) !== 0,
			weight: raw.weight,
		};
	}

	/** Makes a new entry of a free id; packets may be sent to it when this returns. */
	create(entry: Omit<BackendEntry, 'weight' | 'state' | 'self'> & { readonly state: BackendState }): void {
		const at = entry.id * BACKEND_SIZE;
		const v6 = familyOf(entry.address) === 6;
		const bytes = addressBytes(entry.address);
		new Uint8Array(this.#view.buffer, at + 8, BACKEND_SIZE - 8).fill(0);
		new Uint8Array(this.#view.buffer, at + (v6 ? BACKEND_OFFSET.dst6 : BACKEND_OFFSET.dst4), bytes.length).set(bytes);
		if (!v6) this.#view.setUint32(at + BACKEND_OFFSET.csum4, outerHeaderSum(bytes), true);
		this.#view.setUint32(at + BACKEND_OFFSET.pool, entry.pool, true);
		this.set(entry);
	}

	/** Sets state, encapsulation and locality of an entry by one store; false when nothing changed. */
	set(entry: Pick<BackendEntry, 'id' | 'address' | 'encap' | 'local'> & { readonly state: BackendState }): boolean {
		const flags =
			(familyOf(entry.address) === 6 ? BackendFlag.BACKEND_IPV6 : 0) |
			(entry.encap === 'gue' ? BackendFlag.BACKEND_GUE : 0) |
			(entry.local ? BackendFlag.BACKEND_LOCAL : 0) |
			(this.#ownAddresses.has(entry.address) ? BackendFlag.BACKEND_SELF : 0);
		const link = this.#gateway | (BigInt(flags) << 48n) | (BigInt(STATE_BITS[entry.state]) << 56n);
		if (this.#load(entry.id) === link) return false;
		this.#store(entry.id, link);
		return true;
	}

	/** Notes the weight in the ring; packets don't read it. */
	setWeight(id: number, weight: number): void {
		this.#view.setUint32(id * BACKEND_SIZE + BACKEND_OFFSET.weight, weight, true);
	}

	/** Takes no more packets: entries of the flow table that mean it are rehashed. */
	retire(id: number): void {
		this.#store(id, (this.#load(id) & ~(0xffn << 56n)) | (BigInt(Bits.BACKEND_RETIRED) << 56n));
	}

	/** The id is free. Only after a grace period and a sweep since retire(). */
	clear(id: number): void {
		this.#store(id, 0n);
	}

	/** Sends everything to another gateway (6 bytes) from now on. */
	setGateway(mac: Uint8Array): void {
		this.#gateway = macBits(mac);
		for (let id = 1; id < this.#entries; id++) {
			const link = this.#load(id);
			if (link !== 0n) this.#store(id, (link & ~MAC_BITS) | this.#gateway);
		}
	}

	#load(id: number): bigint {
		return Atomics.load(this.#words, (id * BACKEND_SIZE) / 8);
	}

	#store(id: number, link: bigint): void {
		Atomics.store(this.#words, (id * BACKEND_SIZE) / 8, link);
	}
}

/** Wire order in the low six bytes of a little-endian word. */
function macBits(mac: Uint8Array): bigint {
	return mac.reduce((bits, byte, i) => bits | (BigInt(byte) << BigInt(8 * i)), 0n);
}

/** Sum of the little-endian words of the outer IPv4 header's constant bytes: 45 00, 40 04, ac 10 and the destination. */
function outerHeaderSum(dest: Uint8Array): number {
	const header = [0x45, 0x00, 0x40, 0x04, 0xac, 0x10, ...dest];
	return header.reduce((sum, byte, i) => sum + (i % 2 === 0 ? byte : byte << 8), 0);
}
