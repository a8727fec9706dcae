// SPDX-License-Identifier: Apache-2.0
// Carries a set of ring specs into the slots: skips unchanged ones, builds the others off the event loop, and writes
// each pool's row before (pending) and after (final) the batch, so that whoever comes next knows what the slots hold.
import { XdpilotError } from '../errors.ts';
import type { Address } from '../model/address.ts';
import { compareAddresses } from '../model/address.ts';
import { inputsDigest } from '../ring/digest.ts';
import { disruption } from '../ring/disruption.ts';
import type { Ring, RingFactory } from '../ring/ring.ts';
import type { BackendTable } from './backend-table.ts';
import type { DatapathLimits, RingSpec, RingSwap } from './datapath.ts';
import type { Inventory, PoolRecord } from './inventory.ts';
import { kernelError } from './kernel-error.ts';
import type { PoolEntry, PoolTable, RingRecord } from './pool-table.ts';
import type { RingStore } from './ring-store.ts';

interface Change {
	readonly spec: RingSpec;
	readonly ids: readonly number[];
}

const NO_DIGEST = new Uint8Array(32);

export class RingSwaps {
	readonly #inventory: Inventory;
	readonly #pools: PoolTable;
	readonly #backends: BackendTable;
	readonly #store: RingStore;
	readonly #factory: RingFactory;
	readonly #limits: DatapathLimits;

	constructor(parts: {
		readonly inventory: Inventory;
		readonly pools: PoolTable;
		readonly backends: BackendTable;
		readonly store: RingStore;
		readonly factory: RingFactory;
		readonly limits: DatapathLimits;
	}) {
		this.#inventory = parts.inventory;
		this.#pools = parts.pools;
		this.#backends = parts.backends;
		this.#store = parts.store;
		this.#factory = parts.factory;
		this.#limits = parts.limits;
	}

	/** Swaps in the rings whose inputs changed. After a failure the rings of the call are unknown until written again. */
	async swap(specs: readonly RingSpec[]): Promise<RingSwap[]> {
		const changes = this.#changes(specs);
		const rings = await this.#build(changes.map((c) => c.spec));
		const writes = rings.map((ring, i) => ({ ring, ids: changes[i]?.ids ?? [], pool: this.#inventory.ensure(ring.spec.pool) }));
		const before = writes.map(({ pool }) => pool.ring);
		for (const { ring, ids, pool } of writes) this.#begin(pool, ring, ids);
		try {
			await this.#store.swap(writes.map(({ ring, ids, pool }) => ({ ring, ids, pool: pool.number })));
		} catch (e) {
			throw kernelError('swap rings in', e);
		}
		for (const { ring, pool } of writes) this.#finish(pool, ring);
		return writes.map(({ ring, pool }, i) => report(pool, before[i] ?? null, ring));
	}

	/** Rebuilds the rings that adopted rows describe; those whose digest agrees are known from now on. */
	async restore(rows: readonly PoolEntry[]): Promise<void> {
		const described = rows.flatMap(({ name, phase, ring }) => {
			const pool = this.#inventory.find(name);
			return phase === 'final' && pool && ring ? [{ pool, record: ring, spec: this.#specOf(pool, ring) }] : [];
		});
		const rings = await this.#build(described.map((d) => d.spec));
		for (const [i, { pool, record, spec }] of described.entries()) {
			const ring = rings[i];
			const ids = spec.members.map((m) => pool.backends.get(m.address) ?? 0);
			if (ring && sameRecord(record, recordOf(ring, ids, this.#limits.ringSize))) pool.ring = ring;
		}
	}

	/** The distinct specs whose ring is not what the pool has. */
	#changes(specs: readonly RingSpec[]): Change[] {
		const names = new Set(specs.map((s) => s.pool));
		if (names.size !== specs.length) throw new XdpilotError('E_INTERNAL', 'one call swaps the ring of a pool twice');
		return specs.map((spec) => ({ spec, ids: this.#inventory.idsOf(spec) })).filter(({ spec, ids }) => !this.#inventory.hasRing(spec, ids));
	}

	async #build(specs: readonly RingSpec[]): Promise<Ring[]> {
		try {
			return await this.#factory.build(specs);
		} catch (e) {
			throw kernelError('build rings', e);
		}
	}

	#begin(pool: PoolRecord, ring: Ring, ids: readonly number[]): void {
		pool.ring = 'unknown';
		pool.generation++;
		this.#pools.begin(pool.number, pool.generation, recordOf(ring, ids, this.#limits.ringSize));
	}

	#finish(pool: PoolRecord, ring: Ring): void {
		const weights = new Map(ring.spec.members.map((m) => [m.address, m.weight]));
		for (const [address, id] of pool.backends) this.#backends.setWeight(id, weights.get(address) ?? 0);
		this.#pools.finish(pool.number);
		pool.ring = ring;
	}

	#specOf(pool: PoolRecord, record: RingRecord): RingSpec {
		const weightOf = (id: number) => this.#backends.entry(id)?.weight ?? 0;
		const members = [...pool.backends]
			.map(([address, id]: [Address, number]) => ({ address, weight: weightOf(id) }))
			.filter((m) => m.weight > 0)
			.sort((a, b) => compareAddresses(a.address, b.address));
		return { pool: pool.name, hash: record.hash, members };
	}
}

function recordOf(ring: Ring, ids: readonly number[], ringSize: number): RingRecord {
	return {
		hash: ring.spec.hash,
		inputs: digestBytes(inputsDigest(ring.spec, ringSize, ids)),
		digest: ring.digest === null ? NO_DIGEST : digestBytes(ring.digest),
		members: ring.spec.members.length,
	};
}

function sameRecord(a: RingRecord, b: RingRecord): boolean {
	const same = (x: Uint8Array, y: Uint8Array) => Buffer.compare(x, y) === 0;
	return a.hash === b.hash && a.members === b.members && same(a.inputs, b.inputs) && same(a.digest, b.digest);
}

function digestBytes(digest: string): Uint8Array {
	return Buffer.from(digest.slice('sha256:'.length), 'hex');
}

function report(pool: PoolRecord, before: PoolRecord['ring'], after: Ring): RingSwap {
	const { name, generation } = pool;
	if (before === 'unknown') return { pool: name, generation, digest: after.digest, moved: null, unavoidable: null };
	const moves = before === null ? { moved: 0, unavoidable: 0 } : disruption(before, after);
	return { pool: name, generation, digest: after.digest, ...moves };
}
