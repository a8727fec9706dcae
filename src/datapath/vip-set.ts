// SPDX-License-Identifier: Apache-2.0
// The vips by key and their dense numbers. A number that no vip has any more is kept in quarantine until its flows
// are forgotten, so that an old flow never counts for, or is found by, another vip.
import { XdpilotError } from '../errors.ts';
import { isHost, type Vip, vipKey } from '../model/vip.ts';
import { IdAllocator } from './id-allocator.ts';
import type { Inventory } from './inventory.ts';
import { isPrefixRow, type VipPrefixes } from './vip-prefixes.ts';
import { rowKey, rowOf, type VipRow, type VipTable, vipOf } from './vip-table.ts';

interface NumberedVip {
	readonly vip: Vip;
	readonly number: number;
	readonly pool: number;
}

export class VipSet {
	readonly #table: VipTable;
	readonly #prefixes: VipPrefixes;
	readonly #takesPrefixes: boolean;
	readonly #inventory: Inventory;
	readonly #numbers: IdAllocator;
	readonly #max: number;
	#vips = new Map<string, NumberedVip>();

	/** `takesPrefixes`: whether the program was loaded with the branch that looks for them. */
	constructor(table: VipTable, prefixes: VipPrefixes, takesPrefixes: boolean, inventory: Inventory, maxVips: number) {
		this.#table = table;
		this.#prefixes = prefixes;
		this.#takesPrefixes = takesPrefixes;
		this.#inventory = inventory;
		this.#max = maxVips;
		this.#numbers = new IdAllocator(maxVips, 'vip');
	}

	/** By key. */
	vips(): Map<string, Vip> {
		return new Map([...this.#vips].map(([key, v]) => [key, v.vip]));
	}

	numberOf(key: string): number | undefined {
		return this.#vips.get(key)?.number;
	}

	/** A vip that this pool serves. */
	userOf(pool: string): string | undefined {
		return [...this.#vips].find(([, v]) => v.vip.pool === pool)?.[0];
	}

	/** The set by key, checked. @throws XdpilotError E_LIMIT or E_DATAPATH; nothing changed */
	check(vips: Iterable<Vip>): Map<string, Vip> {
		const wanted = new Map<string, Vip>();
		for (const vip of vips) {
			const key = vipKey(vip);
			if (!isHost(vip.prefix) && !this.#takesPrefixes) {
				throw new XdpilotError('E_DATAPATH', `vip ${key} is a prefix, and the program was loaded without those`);
			}
			if (!this.#inventory.find(vip.pool)) throw new XdpilotError('E_DATAPATH', `vip ${key} names pool ${vip.pool}, which was never put`);
			wanted.set(key, vip);
		}
		if (wanted.size > this.#max) {
			throw new XdpilotError('E_LIMIT', `${wanted.size} vips, but at most ${this.#max} fit`, {
				unaffected: 'the vips stay as they are',
				hint: 'raise datapath.max_vips',
			});
		}
		return wanted;
	}

	/** Whether these are the vips, pools and flags included. */
	equals(wanted: ReadonlyMap<string, Vip>): boolean {
		const same = (key: string, vip: Vip) => {
			const present = this.#vips.get(key);
			const pool = this.#inventory.find(vip.pool)?.number;
			return present?.pool === pool && present?.vip.pool === vip.pool && present.vip.flags.join() === vip.flags.join();
		};
		return wanted.size === this.#vips.size && [...wanted].every(([key, vip]) => same(key, vip));
	}

	/** Whether the new ones find numbers without those of the ones that go. */
	hasNumbersFor(wanted: ReadonlyMap<string, Vip>): boolean {
		const fresh = [...wanted.keys()].filter((key) => !this.#vips.has(key)).length;
		return this.#numbers.occupied + fresh <= this.#max;
	}

	/** Those of `wanted` that are there already. */
	kept(wanted: ReadonlyMap<string, Vip>): Map<string, Vip> {
		return new Map([...wanted].filter(([key]) => this.#vips.has(key)));
	}

	/**
	 * Makes these the live vips; returns the numbers that nobody has now, which stay in quarantine until release().
	 * A grace period must have passed since the last call. @throws XdpilotError E_LIMIT; nothing changed
	 */
	write(wanted: ReadonlyMap<string, Vip>): number[] {
		const fresh: number[] = [];
		const next = new Map<string, NumberedVip>();
		try {
			for (const [key, vip] of wanted) {
				const known = this.#vips.get(key)?.number;
				const number = known ?? this.#numbers.take();
				if (known === undefined) fresh.push(number);
				next.set(key, { vip, number, pool: this.#inventory.find(vip.pool)?.number ?? 0 });
			}
			this.#writeRows([...next.values()].map((v) => rowOf(v.vip, v.number, v.pool)));
		} catch (e) {
			for (const number of fresh) {
				this.#numbers.retire(number);
				this.#numbers.release(number);
			}
			throw e;
		}
		const gone = [...this.#vips].filter(([key]) => !next.has(key)).map(([, v]) => v.number);
		for (const number of gone) this.#numbers.retire(number);
		this.#vips = next;
		return gone;
	}

	/** Ends the quarantine of numbers: a grace period and a sweep have passed. */
	release(numbers: readonly number[]): void {
		for (const number of numbers) this.#numbers.release(number);
	}

	/** A program without the branch has not looked at what an earlier one left, and its numbers may be others' now. */
	#adoptedPrefixes(): VipRow[] {
		const rows = this.#prefixes.read();
		if (this.#takesPrefixes) return rows;
		this.#prefixes.prune([]);
		return [];
	}

	#writeRows(rows: readonly VipRow[]): void {
		const prefixes = rows.filter(isPrefixRow);
		const undo = this.#prefixes.put(prefixes);
		try {
			this.#table.write(rows.filter((row) => !isPrefixRow(row)));
		} catch (e) {
			undo();
			throw e;
		}
		this.#prefixes.prune(prefixes);
	}

	/** Takes over the live table of an earlier daemon; returns all numbers that no vip has. */
	adopt(): number[] {
		const names = new Map(this.#inventory.pools().map((p) => [p.number, p.name]));
		for (const row of [...this.#table.read(), ...this.#adoptedPrefixes()]) {
			this.#numbers.claim(row.number);
			this.#vips.set(rowKey(row), { vip: vipOf(row, names.get(row.pool) ?? ''), number: row.number, pool: row.pool });
		}
		const used = new Set([...this.#vips.values()].map((v) => v.number));
		return Array.from({ length: this.#max }, (_, i) => i + 1).filter((n) => !used.has(n));
	}
}
