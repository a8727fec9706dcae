// SPDX-License-Identifier: Apache-2.0
// Server ids, as they stand in connection ids, to backends of the implicit pool. Several ids may name one backend.
import type { Address } from '../model/address.ts';
import type { Encap } from '../model/pool.ts';
import type { BpfMap } from '../native/addon.d.ts';
import { type Inventory, SERVER_ID_POOL } from './inventory.ts';
import { kernelCall } from './kernel-error.ts';

export class ServerIds {
	readonly #map: BpfMap;
	readonly #inventory: Inventory;
	/** Backend id by server id. */
	readonly #ids = new Map<number, number>();

	constructor(map: BpfMap, inventory: Inventory) {
		this.#map = map;
		this.#inventory = inventory;
	}

	/** Replaces the whole map: new ids first, then changed ones, then removals. Returns addresses that no id names now. */
	replace(wanted: ReadonlyMap<number, Address>, encap: Encap): Address[] {
		const backends = new Map([...new Set(wanted.values())].map((address) => [address, this.#put(address, encap)]));
		for (const [serverId, address] of wanted) {
			const backend = backends.get(address) ?? 0;
			if (this.#ids.get(serverId) === backend) continue;
			kernelCall(`set server id ${serverId}`, () => this.#map.update(word(serverId), word(backend)));
			this.#ids.set(serverId, backend);
		}
		for (const serverId of [...this.#ids.keys()].filter((id) => !wanted.has(id))) {
			kernelCall(`remove server id ${serverId}`, () => this.#map.delete(word(serverId)));
			this.#ids.delete(serverId);
		}
		return [...(this.#inventory.find(SERVER_ID_POOL)?.backends.keys() ?? [])].filter((a) => !backends.has(a));
	}

	/** Takes over what an earlier daemon left. */
	adopt(): void {
		for (let key = this.#map.nextKey(); key !== undefined; key = this.#map.nextKey(key)) {
			const value = this.#map.lookup(key);
			if (value) this.#ids.set(number(key), number(value));
		}
	}

	#put(address: Address, encap: Encap): number {
		return this.#inventory.put({ pool: SERVER_ID_POOL, address, state: 'active', encap, local: false });
	}
}

function word(value: number): Uint8Array {
	return new Uint8Array(Uint32Array.of(value).buffer);
}

function number(bytes: Uint8Array): number {
	return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
}
