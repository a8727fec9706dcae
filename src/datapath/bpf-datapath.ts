// SPDX-License-Identifier: Apache-2.0
// The real datapath, over the tables of one instance. It keeps the order that makes every moment safe for packets:
// what is put exists before it is named; what is removed is unlinked first, then a grace period passes, then the
// flow table is swept of it, and only then its number is free.
import type { Env } from '../env.ts';
import { XdpilotError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { Address } from '../model/address.ts';
import type { Encap } from '../model/pool.ts';
import type { Vip } from '../model/vip.ts';
import type { NativeAddon } from '../native/binding.ts';
import type * as dp from './datapath.ts';
import { explainFlow } from './explain.ts';
import { closeInstance, type Instance } from './instance.ts';
import { type PoolRecord, SERVER_ID_POOL } from './inventory.ts';
import { kernelCall } from './kernel-error.ts';
import type { DatapathOptions } from './options.ts';
import { Serial } from './serial.ts';
import { Sweeper } from './sweeper.ts';
import { openTables, type Tables } from './tables.ts';

/** enum xdp_action of linux/bpf.h, in order. */
const XDP_ACTIONS = ['aborted', 'drop', 'pass', 'tx', 'redirect'] as const;

export interface TestRun {
	readonly verdict: (typeof XDP_ACTIONS)[number];
	/** The frame after the program. */
	readonly out: Uint8Array;
}

export class BpfDatapath implements dp.Datapath {
	readonly limits: dp.DatapathLimits;
	/** Programs and maps, for measurements and tests. */
	readonly instance: Instance;
	readonly #tables: Tables;
	readonly #sweeper: Sweeper;
	/** Writes of rings and vips, one at a time. */
	readonly #writes = new Serial();
	/** Passes when the vip table that is not live may be written again. */
	#vipGrace: Promise<void> = Promise.resolve();
	/** Numbers on their way out of quarantine. */
	readonly #settling = new Set<Promise<void>>();
	#closed = false;

	private constructor(native: NativeAddon, env: Env, log: Logger, instance: Instance, options: DatapathOptions) {
		this.limits = options.limits;
		this.instance = instance;
		this.#tables = openTables(native, env, instance, options);
		this.#sweeper = new Sweeper(env, this.#tables.flows, (err) => log.error({ err }, 'the flow table could not be swept of old entries'));
	}

	/** Starts on an instance; takes over what its maps hold when it was adopted. */
	static async start(native: NativeAddon, env: Env, log: Logger, instance: Instance, options: DatapathOptions): Promise<BpfDatapath> {
		const datapath = new BpfDatapath(native, env, log, instance, options);
		try {
			if (instance.adopted) await datapath.#adopt(options.gatewayMac);
		} catch (e) {
			await datapath.close();
			throw e;
		}
		return datapath;
	}

	/** Asks the kernel: a link outlives its interface as an empty shell that belongs to none. */
	get info(): dp.DatapathInfo {
		const { attachment, adopted } = this.instance;
		const isAttached = attachment !== null && (this.#closed || attachment.link.info().ifindex !== 0);
		return { interface: attachment?.interface ?? '', mode: isAttached ? attachment.mode : 'none', adopted };
	}

	actual(): dp.ActualState {
		this.#assertOpen();
		const { inventory, vipSet } = this.#tables;
		return { pools: new Map(inventory.pools().map((pool) => [pool.name, this.#actualPool(pool)])), vips: vipSet.vips() };
	}

	putBackends(puts: readonly dp.BackendPut[]): void {
		this.#assertOpen();
		for (const put of puts) this.#tables.inventory.put(put);
	}

	swapRings(rings: readonly dp.RingSpec[]): Promise<dp.RingSwap[]> {
		return this.#write(() => this.#tables.rings.swap(rings));
	}

	async putVips(vips: Iterable<Vip>): Promise<void> {
		const list = [...vips];
		const gone = await this.#write(async () => {
			const { vipSet } = this.#tables;
			const wanted = vipSet.check(list);
			if (vipSet.equals(wanted)) return [];
			// Out of numbers: those that go make room first. They would go anyway, and the new ones come as soon as they can.
			if (!vipSet.hasNumbersFor(wanted)) await this.#freeVips(await this.#flipVips(vipSet.kept(wanted)));
			return this.#flipVips(wanted);
		});
		await this.#settle(() => this.#freeVips(gone));
	}

	async putServerIds(ids: ReadonlyMap<number, Address>, encap: Encap): Promise<void> {
		const wanted = new Map(ids);
		const retired = await this.#write(async () => {
			const unused = this.#tables.serverIds.replace(wanted, encap);
			return this.#tables.inventory.retire(SERVER_ID_POOL, unused);
		});
		await this.#settle(() => this.#freeBackends(retired));
	}

	async removeBackends(pool: string, addresses: readonly Address[]): Promise<void> {
		const retired = await this.#write(async () => this.#tables.inventory.retire(pool, addresses));
		await this.#settle(() => this.#freeBackends(retired));
	}

	async removePools(names: readonly string[]): Promise<void> {
		const { inventory, rings } = this.#tables;
		await this.#write(async () => {
			const pools = [...new Set(names)].flatMap((name) => inventory.find(name) ?? []).filter((p) => p.name !== SERVER_ID_POOL);
			for (const { name } of pools) this.#assertNoVip(name);
			const filled = pools.filter((p) => p.ring !== null);
			await rings.swap(filled.map(({ name }) => ({ pool: name, hash: 'maglev-v2', members: [] })));
			const retired = pools.flatMap((p) => inventory.retire(p.name, [...p.backends.keys()]));
			await this.#freeBackends(retired);
			for (const pool of pools) inventory.drop(pool);
		});
	}

	setGatewayMac(mac: Uint8Array): void {
		this.#assertOpen();
		if (mac.length !== 6) throw new XdpilotError('E_DATAPATH', `a MAC address has 6 bytes, got ${mac.length}`);
		this.#tables.backends.setGateway(mac);
	}

	counters(): dp.DatapathCounters {
		this.#assertOpen();
		const { counters, vipSet } = this.#tables;
		const vips = [...vipSet.vips().keys()].map((key): [string, dp.VipCounters] => [key, counters.vip(vipSet.numberOf(key) ?? 0)]);
		return {
			vips: new Map(vips),
			backends: this.#byBackend((id) => counters.backend(id)),
			global: counters.global(),
			drops: counters.drops(),
		};
	}

	async countFlows(): Promise<ReadonlyMap<string, ReadonlyMap<Address, number>>> {
		this.#assertOpen();
		const counts = await this.#tables.flows.count(this.limits.maxBackends + 1);
		return this.#byBackend((id) => counts[id] ?? 0);
	}

	explain(flow: dp.Flow): dp.FlowVerdict {
		this.#assertOpen();
		return explainFlow(this.#tables, flow);
	}

	/** Runs the program on one frame (14 bytes or more) by BPF_PROG_TEST_RUN; its tables and counters change as by traffic. */
	testRun(frame: Uint8Array): TestRun {
		this.#assertOpen();
		const { verdict, out } = kernelCall('run the program on a frame', () => this.instance.program.testRun(frame));
		return { verdict: XDP_ACTIONS[verdict] ?? 'aborted', out };
	}

	async close(): Promise<void> {
		if (this.#closed) return;
		this.#closed = true;
		await this.#writes.idle();
		await Promise.allSettled([this.#sweeper.close(), this.#vipGrace, ...this.#settling]);
		await this.#tables.outer.idle();
		this.#tables.scratch.close();
		closeInstance(this.instance);
	}

	/** Builds the other vip table and flips to it; the numbers that nobody has now. */
	async #flipVips(wanted: ReadonlyMap<string, Vip>): Promise<number[]> {
		await this.#vipGrace.catch(() => this.#tables.outer.grace());
		const gone = this.#tables.vipSet.write(wanted);
		this.#vipGrace = this.#tables.outer.grace();
		// Whoever awaits it hears of a failure; until somebody does, it is no unhandled one.
		this.#vipGrace.catch(() => undefined);
		return gone;
	}

	/** Numbers that a flip left over. */
	async #freeVips(numbers: readonly number[]): Promise<void> {
		const { flows, counters, vipSet } = this.#tables;
		await this.#vipGrace;
		await flows.forgetVips(numbers);
		for (const number of numbers) counters.clearVip(number);
		vipSet.release(numbers);
	}

	async #freeBackends(ids: readonly number[]): Promise<void> {
		if (ids.length === 0) return;
		const { outer, flows, counters, inventory } = this.#tables;
		await outer.grace();
		await flows.forgetBackends(ids);
		for (const id of ids) counters.clearBackend(id);
		inventory.release(ids);
	}

	/** What the maps hold becomes what is known; what an earlier daemon had begun to remove is finished. */
	async #adopt(gateway: Uint8Array): Promise<void> {
		const { inventory, backends, vipSet, serverIds, rings, outer, flows, counters } = this.#tables;
		const { retired, rows } = inventory.adopt();
		const unusedVips = vipSet.adopt();
		serverIds.adopt();
		backends.setGateway(gateway);
		await rings.restore(rows);
		// The earlier daemon may have died between unlinking and sweeping, or just after a flip.
		await outer.grace();
		await flows.forgetVips(unusedVips);
		for (const number of unusedVips) counters.clearVip(number);
		await this.#freeBackends(retired);
	}

	#actualPool(pool: PoolRecord): dp.ActualPool {
		const ring = pool.ring instanceof Object ? pool.ring : null;
		const ranks = new Map(ring?.spec.members.map((m, rank) => [m.address, rank]));
		const backends = [...pool.backends].flatMap(([address, id]): [Address, dp.ActualBackend][] => {
			const entry = this.#tables.backends.entry(id);
			if (!entry || entry.state === 'retired') return [];
			const rank = ranks.get(address);
			const weight = rank === undefined ? 0 : (ring?.spec.members[rank]?.weight ?? 0);
			const slots = pool.ring === 'unknown' ? null : rank === undefined ? 0 : (ring?.counts[rank] ?? 0);
			return [[address, { address, state: entry.state, encap: entry.encap, local: entry.local, weight, slots }]];
		});
		const inputs = this.#tables.inventory.inputsOf(pool);
		const { generation } = pool;
		const shown = ring && inputs !== undefined ? { hash: ring.spec.hash, digest: ring.digest, generation, inputs } : null;
		return { name: pool.name, ring: shown, backends: new Map(backends) };
	}

	#byBackend<T>(read: (id: number) => T): Map<string, Map<Address, T>> {
		const of = (pool: PoolRecord) => new Map([...pool.backends].map(([address, id]): [Address, T] => [address, read(id)]));
		const shown = this.#tables.inventory.allPools().filter((p) => p.name !== SERVER_ID_POOL || p.backends.size > 0);
		return new Map(shown.map((pool) => [pool.name, of(pool)]));
	}

	#assertNoVip(pool: string): void {
		const user = this.#tables.vipSet.userOf(pool);
		if (user !== undefined) {
			throw new XdpilotError('E_DATAPATH', `pool ${pool} still serves vip ${user}`, { unaffected: 'nothing was removed' });
		}
	}

	#write<T>(work: () => Promise<T>): Promise<T> {
		return this.#writes.run(() => {
			this.#assertOpen();
			return work();
		});
	}

	/** Runs beside later writes; close() waits for it. */
	async #settle(work: () => Promise<void>): Promise<void> {
		const running = work();
		this.#settling.add(running);
		try {
			await running;
		} finally {
			this.#settling.delete(running);
		}
	}

	#assertOpen(): void {
		if (this.#closed) throw new XdpilotError('E_DATAPATH', 'the datapath is closed');
	}
}
