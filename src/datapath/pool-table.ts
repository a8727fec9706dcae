// SPDX-License-Identifier: Apache-2.0
// One pinned row a pool: its name and what its ring was made of, because a ring can't be read back. A row is
// `pending` from before a ring write until it is confirmed; whoever finds a pending row writes the ring again.
// The first byte of the name is stored last, so that a row of a daemon that died in between is still unused.
import { XdpilotError } from '../errors.ts';
import type { HashFunction } from '../model/pool.ts';
import { decodePoolRow, POOL_ROW_OFFSET, POOL_ROW_SIZE, PoolPhase } from './abi.gen.ts';

/** What a ring is made of. */
export interface RingRecord {
	readonly hash: HashFunction;
	/** SHA-256 of hash, ring size, members, weights and ids. */
	readonly inputs: Uint8Array;
	/** SHA-256 of the ring; all zero for an empty one. */
	readonly digest: Uint8Array;
	readonly members: number;
}

export interface PoolEntry {
	readonly number: number;
	readonly name: string;
	/** none: no ring was ever written; pending: it is not known which ring the pool has. */
	readonly phase: 'none' | 'pending' | 'final';
	readonly generation: number;
	/** The ring that the pool has (final) or that was to be written (pending). */
	readonly ring: RingRecord | undefined;
}

const NAME_BYTES = POOL_ROW_OFFSET.inputs - POOL_ROW_OFFSET.name;
const HASH_NUMBER: Readonly<Record<HashFunction, number>> = { 'maglev-v1': 1, 'maglev-v2': 2 };
const PHASES = ['none', 'pending', 'final'] as const;

export class PoolTable {
	readonly #view: DataView;
	readonly #bytes: Uint8Array;
	readonly #rows: number;

	constructor(memory: ArrayBuffer, rows: number) {
		this.#view = new DataView(memory);
		this.#bytes = new Uint8Array(memory);
		this.#rows = rows;
	}

	/** All used rows. */
	read(): PoolEntry[] {
		return Array.from({ length: this.#rows }, (_, number) => this.#entry(number)).filter((e) => e !== undefined);
	}

	/** Takes a free row. @throws XdpilotError E_LIMIT when the name does not fit */
	create(number: number, name: string): void {
		const text = Buffer.from(name, 'utf8');
		if (text.length >= NAME_BYTES || text.length === 0) {
			throw new XdpilotError('E_LIMIT', `the name of pool ${name} has ${text.length} bytes, 1 to ${NAME_BYTES - 1} fit`);
		}
		const row = this.#row(number).fill(0);
		row.set(text.subarray(1), POOL_ROW_OFFSET.name + 1);
		Atomics.store(row, POOL_ROW_OFFSET.name, text[0] ?? 0);
	}

	/** Before a ring is written. */
	begin(number: number, generation: number, ring: RingRecord): void {
		const row = this.#row(number);
		this.#setPhase(number, PoolPhase.POOL_PENDING);
		row.set(ring.inputs, POOL_ROW_OFFSET.inputs);
		row.set(ring.digest, POOL_ROW_OFFSET.digest);
		const at = number * POOL_ROW_SIZE;
		this.#view.setUint32(at + POOL_ROW_OFFSET.generation, generation, true);
		this.#view.setUint32(at + POOL_ROW_OFFSET.hash, HASH_NUMBER[ring.hash], true);
		this.#view.setUint32(at + POOL_ROW_OFFSET.members, ring.members, true);
	}

	/** The ring of begin() is in its slot, and the weights of its members are noted. */
	finish(number: number): void {
		this.#setPhase(number, PoolPhase.POOL_FINAL);
	}

	/** Frees the row. */
	clear(number: number): void {
		const row = this.#row(number);
		Atomics.store(row, POOL_ROW_OFFSET.name, 0);
		row.fill(0);
	}

	#entry(number: number): PoolEntry | undefined {
		const raw = decodePoolRow(this.#view, number * POOL_ROW_SIZE);
		if (raw.name[0] === 0) return undefined;
		const end = raw.name.indexOf(0);
		const name = Buffer.from(raw.name.subarray(0, end < 0 ? raw.name.length : end)).toString('utf8');
		const phase = PHASES[raw.phase] ?? 'pending';
		const hash: HashFunction = raw.hash === HASH_NUMBER['maglev-v1'] ? 'maglev-v1' : 'maglev-v2';
		const ring = phase === 'none' ? undefined : { hash, inputs: raw.inputs, digest: raw.digest, members: raw.members };
		return { number, name, phase, generation: raw.generation, ring };
	}

	#row(number: number): Uint8Array {
		return this.#bytes.subarray(number * POOL_ROW_SIZE, (number + 1) * POOL_ROW_SIZE);
	}

	#setPhase(number: number, phase: number): void {
		const words = new Uint32Array(this.#view.buffer, number * POOL_ROW_SIZE + POOL_ROW_OFFSET.phase, 1);
		Atomics.store(words, 0, phase);
	}
}
