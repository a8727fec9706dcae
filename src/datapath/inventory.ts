// SPDX-License-Identifier: Apache-2.0
// Which pools and backends there are, by name and address, over the tables that packets and later daemons read.
// Owns their numbers. A retired backend is gone from here at once; its id stays in quarantine until release().
import { XdpilotError } from '../errors.ts';
import type { Address } from '../model/address.ts';
import { inputsDigest } from '../ring/digest.ts';
import type { Ring } from '../ring/ring.ts';
import { PoolNumber } from './abi.gen.ts';
import type { BackendTable } from './backend-table.ts';
import type { BackendPut, DatapathLimits, RingSpec } from './datapath.ts';
import { IdAllocator } from './id-allocator.ts';
import type { PoolEntry, PoolTable } from './pool-table.ts';

/** The implicit pool of server ids: no name in the configuration can be this one. */
export const SERVER_ID_POOL = '@server-ids';

export interface PoolRecord {
	readonly number: number;
	readonly name: string;
	/** Backend ids by address. */
	readonly backends: Map<Address, number>;
	generation: number;
	/** The ring in the pool's slot; null = never written; `unknown` = a write of it was not confirmed. */
	ring: Ring | null | 'unknown';
}

export class Inventory {
	readonly #pools = new Map<string, PoolRecord>();
	readonly #poolTable: PoolTable;
	readonly #backendTable: BackendTable;
	readonly #poolIds: IdAllocator;
	readonly #backendIds: IdAllocator;
	readonly #limits: DatapathLimits;

	constructor(poolTable: PoolTable, backendTable: BackendTable, limits: DatapathLimits) {
		this.#poolTable = poolTable;
		this.#backendTable = backendTable;
		this.#limits = limits;
		this.#poolIds = new IdAllocator(limits.maxPools, 'pool');
		this.#backendIds = new IdAllocator(limits.maxBackends, 'backend');
		this.#pools.set(SERVER_ID_POOL, newRecord(PoolNumber.POOL_SERVER_IDS, SERVER_ID_POOL));
	}

	/** All pools but the implicit one. */
	pools(): PoolRecord[] {
		return [...this.#pools.values()].filter((p) => p.number !== PoolNumber.POOL_SERVER_IDS);
	}

	allPools(): PoolRecord[] {
		return [...this.#pools.values()];
	}

	find(name: string): PoolRecord | undefined {
		return this.#pools.get(name);
	}

	byNumber(number: number): PoolRecord | undefined {
		return this.allPools().find((p) => p.number === number);
	}

	/** The pool of this name, made if missing. @throws XdpilotError E_LIMIT */
	ensure(name: string): PoolRecord {
		const known = this.#pools.get(name);
		if (known) return known;
		const number = this.#poolIds.take();
		try {
			this.#poolTable.create(number, name);
		} catch (e) {
			this.#poolIds.retire(number);
			this.#poolIds.release(number);
			throw e;
		}
		const record = newRecord(number, name);
		this.#pools.set(name, record);
		return record;
	}

	/** Creates or changes one backend; its id. @throws XdpilotError E_LIMIT */
	put(put: BackendPut): number {
		const pool = this.ensure(put.pool);
		const { address, state, encap, local } = put;
		const known = pool.backends.get(address);
		if (known !== undefined) {
			this.#backendTable.set({ id: known, address, state, encap, local });
			return known;
		}
		const id = this.#backendIds.take();
		this.#backendTable.create({ id, address, pool: pool.number, state, encap, local });
		pool.backends.set(address, id);
		return id;
	}

	/** Ids of a ring's members, in their order. @throws XdpilotError when one was never put, or there are too many */
	idsOf(spec: RingSpec): number[] {
		const pool = this.#pools.get(spec.pool);
		if (spec.members.length > this.#limits.maxBackendsPerPool) {
			throw new XdpilotError(
				'E_LIMIT',
				`pool ${spec.pool} has ${spec.members.length} backends, a ring holds ${this.#limits.maxBackendsPerPool}`,
				{
					unaffected: 'its ring stays as it is',
					hint: 'raise datapath.max_backends_per_pool',
				},
			);
		}
		return spec.members.map(({ address }) => {
			const id = pool?.backends.get(address);
			if (id === undefined) throw new XdpilotError('E_DATAPATH', `backend ${address} of pool ${spec.pool} was never put`);
			return id;
		});
	}

	/** Whether the pool's ring is known to be made of exactly this. */
	hasRing(spec: RingSpec, ids: readonly number[]): boolean {
		const pool = this.#pools.get(spec.pool);
		return pool?.ring instanceof Object && this.inputsOf(pool) === inputsDigest(spec, this.#limits.ringSize, ids);
	}

	/** inputsDigest() of the pool's ring; undefined when it is not known. */
	inputsOf(pool: PoolRecord): string | undefined {
		if (pool.ring === null || pool.ring === 'unknown') return undefined;
		const ids = pool.ring.spec.members.map((m) => pool.backends.get(m.address) ?? 0);
		return inputsDigest(pool.ring.spec, this.#limits.ringSize, ids);
	}

	/**
	 * Unlinks backends: packets no longer keep to them, and they are gone from here. Their ids, which are returned,
	 * stay in quarantine. @throws XdpilotError E_DATAPATH when the pool's ring may name one; nothing changed
	 */
	retire(name: string, addresses: readonly Address[]): number[] {
		const pool = this.#pools.get(name);
		const present = addresses.filter((a) => pool?.backends.has(a));
		if (!pool || present.length === 0) return [];
		const blocked = pool.ring === 'unknown' ? present[0] : present.find((a) => inRing(pool, a));
		if (blocked !== undefined) {
			throw new XdpilotError('E_DATAPATH', `backend ${blocked} may still be in the ring of pool ${name}`, {
				unaffected: 'nothing was removed',
				retryable: true,
			});
		}
		return present.flatMap((address) => {
			const id = pool.backends.get(address);
			if (id === undefined) return [];
			pool.backends.delete(address);
			this.#backendIds.retire(id);
			this.#backendTable.retire(id);
			return [id];
		});
	}

	/** Ends the quarantine of backend ids: a grace period and a sweep have passed. */
	release(ids: readonly number[]): void {
		for (const id of ids) {
			this.#backendTable.clear(id);
			this.#backendIds.release(id);
		}
	}

	/** Forgets a pool without backends whose slot is empty and which no packet can be handled for any more. */
	drop(pool: PoolRecord): void {
		this.#pools.delete(pool.name);
		this.#poolTable.clear(pool.number);
		this.#poolIds.retire(pool.number);
		this.#poolIds.release(pool.number);
	}

	/** Takes over what an earlier daemon left. Rings are unknown until their spec was rebuilt; ids it had retired are returned. */
	adopt(): { readonly retired: number[]; readonly rows: PoolEntry[] } {
		const rows = this.#poolTable.read();
		for (const row of rows) {
			this.#poolIds.claim(row.number);
			const record = newRecord(row.number, row.name);
			record.generation = row.generation;
			record.ring = row.phase === 'none' ? null : 'unknown';
			this.#pools.set(row.name, record);
		}
		const byNumber = new Map(this.allPools().map((p) => [p.number, p]));
		const retired: number[] = [];
		for (const entry of this.#backendTable.read()) {
			this.#backendIds.claim(entry.id);
			const pool = byNumber.get(entry.pool);
			if (entry.state !== 'retired' && pool && !pool.backends.has(entry.address)) {
				pool.backends.set(entry.address, entry.id);
				continue;
			}
			this.#backendIds.retire(entry.id);
			this.#backendTable.retire(entry.id);
			retired.push(entry.id);
		}
		return { retired, rows };
	}
}

function newRecord(number: number, name: string): PoolRecord {
	return { number, name, backends: new Map(), generation: 0, ring: null };
}

function inRing(pool: PoolRecord, address: Address): boolean {
	return pool.ring instanceof Object && pool.ring.spec.members.some((m) => m.address === address);
}
