// SPDX-License-Identifier: Apache-2.0
// The in-memory twin of BpfDatapath: the same limits, idempotence, ids, generations, slots and flow rules, without
// a kernel. It passes the same contract suite (datapath-contract.ts), so it can't drift. `send` plays a packet;
// `journal` lists what really changed, in order; `gate` lets a test hold swaps back.
import { LB_COUNTER_NAMES, LB_DROP_NAMES } from '../../src/datapath/abi.gen.ts';
import type * as dp from '../../src/datapath/datapath.ts';
import { findVip, flowKey } from '../../src/datapath/flow-key.ts';
import { IdAllocator } from '../../src/datapath/id-allocator.ts';
import { type Env, systemEnv } from '../../src/env.ts';
import { XdpilotError } from '../../src/errors.ts';
import type { Address } from '../../src/model/address.ts';
import type { BackendState } from '../../src/model/backend.ts';
import type { Encap } from '../../src/model/pool.ts';
import { type Vip, vipKey } from '../../src/model/vip.ts';
import { inputsDigest } from '../../src/ring/digest.ts';
import { disruption } from '../../src/ring/disruption.ts';
import { flowSlot, KATRAN_SEEDS } from '../../src/ring/flow-hash.ts';
import { type Ring, RingFactory, referenceRingBuilder } from '../../src/ring/ring.ts';

interface FakeBackend {
	readonly id: number;
	readonly address: Address;
	readonly pool: string;
	state: BackendState;
	encap: Encap;
	local: boolean;
	packets: bigint;
	bytes: bigint;
}

interface FakePool {
	readonly id: number;
	ring: Ring | null;
	generation: number;
	readonly backends: Map<Address, FakeBackend>;
}

interface FakeFlow {
	readonly vip: string;
	readonly backend: number;
	established: boolean;
	seen: number;
	readonly udp: boolean;
}

const UDP_IDLE_MS = 30_000;

export interface FakeOptions {
	readonly limits?: Partial<dp.DatapathLimits>;
	readonly env?: Env;
	/** Awaited between the build and the swap of every swapRings call. */
	readonly gate?: () => Promise<void>;
}

export class FakeDatapath implements dp.Datapath {
	readonly limits: dp.DatapathLimits;
	readonly info: dp.DatapathInfo = { interface: 'fake0', mode: 'none', adopted: false };
	/** One line per effective change, e.g. `backend web 10.0.0.1 active`, `ring web gen 2 n 3`, `vips 2`. */
	readonly journal: string[] = [];
	readonly #env: Env;
	readonly #gate: () => Promise<void>;
	readonly #pools = new Map<string, FakePool>();
	readonly #backends = new Map<number, FakeBackend>();
	readonly #flows = new Map<string, FakeFlow>();
	readonly #poolIds: IdAllocator;
	readonly #backendIds: IdAllocator;
	readonly #rings: RingFactory;
	#vips = new Map<string, Vip>();
	#vipPackets = new Map<string, dp.VipCounters>();
	#serverIds = new Map<number, Address>();
	#gateway: Uint8Array = new Uint8Array(6);
	readonly #global = new Map<string, bigint>();
	readonly #drops = new Map<string, bigint>();
	#queue: Promise<unknown> = Promise.resolve();
	#closed = false;

	constructor(options: FakeOptions = {}) {
		this.limits = { ringSize: 1009, maxBackendsPerPool: 64, maxPools: 32, maxBackends: 256, maxVips: 32, ...options.limits };
		this.#env = options.env ?? systemEnv;
		this.#gate = options.gate ?? (() => Promise.resolve());
		this.#rings = new RingFactory(referenceRingBuilder, this.limits.ringSize);
		this.#poolIds = new IdAllocator(this.limits.maxPools, 'pool');
		this.#backendIds = new IdAllocator(this.limits.maxBackends, 'backend');
	}

	get gatewayMac(): Uint8Array {
		return this.#gateway;
	}

	get serverIds(): ReadonlyMap<number, Address> {
		return this.#serverIds;
	}

	/** The dense id of a backend, to see that ids are not reused too early. */
	backendId(pool: string, address: Address): number | undefined {
		return this.#pools.get(pool)?.backends.get(address)?.id;
	}

	actual(): dp.ActualState {
		this.#assertOpen();
		const pools = new Map([...this.#pools].map(([name, pool]) => [name, actualPool(name, pool)]));
		return { pools, vips: new Map(this.#vips) };
	}

	putBackends(puts: readonly dp.BackendPut[]): void {
		this.#assertOpen();
		for (const put of puts) this.#putBackend(put);
	}

	swapRings(rings: readonly dp.RingSpec[]): Promise<dp.RingSwap[]> {
		return this.#serialised(async () => {
			const changed = rings.filter((spec) => this.#isChanged(spec));
			const built = await this.#rings.build(changed);
			await this.#gate();
			return built.map((ring) => this.#swap(ring));
		});
	}

	putVips(vips: Iterable<Vip>): Promise<void> {
		const wanted = [...vips];
		return this.#serialised(async () => {
			const next = new Map<string, Vip>();
			for (const vip of wanted) next.set(vipKey(vip), this.#checkedVip(vip));
			if (next.size > this.limits.maxVips) throw new XdpilotError('E_LIMIT', `${next.size} vips, but at most ${this.limits.maxVips} fit`);
			if (sameVips(this.#vips, next)) return;
			for (const [key, flow] of this.#flows) if (!next.has(flow.vip)) this.#flows.delete(key);
			this.#vipPackets = new Map([...this.#vipPackets].filter(([key]) => next.has(key)));
			this.#vips = next;
			this.journal.push(`vips ${next.size}`);
		});
	}

	putServerIds(ids: ReadonlyMap<number, Address>): Promise<void> {
		const wanted = new Map(ids);
		return this.#serialised(async () => {
			const same = wanted.size === this.#serverIds.size && [...wanted].every(([id, a]) => this.#serverIds.get(id) === a);
			if (same) return;
			this.#serverIds = wanted;
			this.journal.push(`server-ids ${wanted.size}`);
		});
	}

	removeBackends(name: string, addresses: readonly Address[]): Promise<void> {
		return this.#serialised(async () => {
			const pool = this.#pools.get(name);
			const gone = addresses.flatMap((a) => pool?.backends.get(a) ?? []);
			const inRing = gone.find((b) => pool?.ring?.spec.members.some((m) => m.address === b.address));
			if (inRing) throw new XdpilotError('E_DATAPATH', `backend ${inRing.address} is still in the ring of pool ${name}`);
			for (const backend of gone) this.#dropBackend(backend);
		});
	}

	removePools(names: readonly string[]): Promise<void> {
		return this.#serialised(async () => {
			for (const name of names) {
				const user = [...this.#vips.values()].find((v) => v.pool === name);
				if (user) throw new XdpilotError('E_DATAPATH', `pool ${name} still serves vip ${vipKey(user)}`);
			}
			for (const name of names) this.#dropPool(name);
		});
	}

	setGatewayMac(mac: Uint8Array): void {
		this.#assertOpen();
		if (mac.length !== 6) throw new XdpilotError('E_DATAPATH', `a MAC address has 6 bytes, got ${mac.length}`);
		this.#gateway = Uint8Array.from(mac);
		this.journal.push(`gateway ${Buffer.from(mac).toString('hex')}`);
	}

	counters(): dp.DatapathCounters {
		this.#assertOpen();
		const zero = { packets: 0n, bytes: 0n, newFlows: 0n };
		return {
			vips: new Map([...this.#vips.keys()].map((key) => [key, this.#vipPackets.get(key) ?? zero])),
			backends: new Map([...this.#pools].map(([name, pool]) => [name, backendCounters(pool)])),
			global: Object.fromEntries(LB_COUNTER_NAMES.map((name) => [name, this.#global.get(name) ?? 0n])),
			drops: Object.fromEntries(LB_DROP_NAMES.map((name) => [name, this.#drops.get(name) ?? 0n])),
		};
	}

	async countFlows(): Promise<ReadonlyMap<string, ReadonlyMap<Address, number>>> {
		this.#assertOpen();
		const count = (id: number) => [...this.#flows.values()].filter((f) => f.backend === id).length;
		return new Map(
			[...this.#pools].map(([name, pool]) => [name, new Map([...pool.backends.values()].map((b) => [b.address, count(b.id)]))]),
		);
	}

	explain(flow: dp.Flow): dp.FlowVerdict {
		this.#assertOpen();
		return this.#verdict(flow);
	}

	/** `isNew`: the packet begins a flow, so that the flow table is not asked. */
	#verdict(flow: dp.Flow, isNew = false): dp.FlowVerdict {
		const vip = findVip(this.#vips.values(), flow);
		const none = {
			vip: null,
			pool: null,
			via: 'none',
			backend: null,
			entry: null,
			slot: null,
			ringBackend: null,
			generation: null,
			drop: null,
		} as const;
		if (!vip) return none;
		const pool = this.#pools.get(vip.pool);
		const { ringSize } = this.limits;
		const slot = flowSlot(flowKey(vip, flow).hash, ringSize, { ...KATRAN_SEEDS, flow: 512 * ringSize });
		const fromRing = pool?.ring?.spec.members[pool.ring.slots[slot] ?? 0]?.address;
		const inRing = fromRing === undefined ? undefined : pool?.backends.get(fromRing);
		const entry = isNew ? undefined : this.#entry(vip, flow);
		const chosen = entry?.usable ? this.#backends.get(entry.id) : inRing;
		return {
			vip: vipKey(vip),
			pool: vip.pool,
			via: entry?.usable ? 'flow-table' : inRing ? 'ring' : 'none',
			backend: chosen ? { address: chosen.address, state: chosen.state } : null,
			entry: entry ? { address: entry.address, ageSeconds: entry.ageSeconds, established: entry.established, usable: entry.usable } : null,
			slot: pool?.ring?.slots.length ? slot : null,
			ringBackend: fromRing ?? null,
			generation: pool?.ring ? pool.generation : null,
			drop: chosen ? null : 'pool_empty',
		};
	}

	/** Plays one packet of `bytes` IP bytes: the backend it goes to, or what else becomes of it. A SYN ignores the flow table. */
	send(flow: dp.Flow, packet: { readonly syn?: boolean; readonly bytes?: number } = {}): Address | 'pass' | 'drop' {
		const vip = findVip(this.#vips.values(), flow);
		if (!vip) {
			this.#global.set('pass', (this.#global.get('pass') ?? 0n) + 1n);
			return 'pass';
		}
		const verdict = this.#verdict(flow, packet.syn);
		const backend = verdict.backend && this.#pools.get(verdict.pool ?? '')?.backends.get(verdict.backend.address);
		this.#count(vip, packet.bytes ?? 40, verdict.via !== 'flow-table');
		if (!backend) {
			const reason = verdict.drop ?? 'internal';
			this.#drops.set(reason, (this.#drops.get(reason) ?? 0n) + 1n);
			return 'drop';
		}
		backend.packets += 1n;
		backend.bytes += BigInt(packet.bytes ?? 40);
		if (!vip.flags.includes('no_flow_table')) this.#remember(vip, flow, backend.id, verdict.via === 'flow-table');
		return backend.address;
	}

	async close(): Promise<void> {
		this.#closed = true;
	}

	#putBackend(put: dp.BackendPut): void {
		const pool = this.#pool(put.pool);
		const known = pool.backends.get(put.address);
		if (known?.state === put.state && known.encap === put.encap && known.local === put.local) return;
		const backend = known ?? { ...put, id: this.#backendIds.take(), packets: 0n, bytes: 0n };
		Object.assign(backend, { state: put.state, encap: put.encap, local: put.local });
		pool.backends.set(put.address, backend);
		this.#backends.set(backend.id, backend);
		this.journal.push(`backend ${put.pool} ${put.address} ${put.state}`);
	}

	/** The pool of this name, made if missing. */
	#pool(name: string): FakePool {
		const pool = this.#pools.get(name) ?? { id: this.#poolIds.take(), ring: null, generation: 0, backends: new Map() };
		this.#pools.set(name, pool);
		return pool;
	}

	#isChanged(spec: dp.RingSpec): boolean {
		const pool = this.#pools.get(spec.pool);
		if (!pool && spec.members.length === 0) return true;
		if (!pool) throw new XdpilotError('E_DATAPATH', `pool ${spec.pool} was never put`);
		if (spec.members.length > this.limits.maxBackendsPerPool) {
			throw new XdpilotError(
				'E_LIMIT',
				`pool ${spec.pool} has ${spec.members.length} backends, a ring holds ${this.limits.maxBackendsPerPool}`,
			);
		}
		for (const { address } of spec.members) {
			if (!pool.backends.has(address)) throw new XdpilotError('E_DATAPATH', `backend ${address} of pool ${spec.pool} was never put`);
		}
		const present = pool.ring?.spec;
		const { ringSize } = this.limits;
		return present === undefined || inputsDigest(present, ringSize) !== inputsDigest(spec, ringSize);
	}

	#swap(ring: Ring): dp.RingSwap {
		const { pool: name, members } = ring.spec;
		const pool = this.#pool(name);
		const moves = disruption(pool.ring ?? { ...ring, slots: new Uint16Array(0) }, ring);
		pool.ring = ring;
		pool.generation++;
		this.journal.push(`ring ${name} gen ${pool.generation} n ${members.length}`);
		return { pool: name, generation: pool.generation, digest: ring.digest, ...moves };
	}

	#checkedVip(vip: Vip): Vip {
		if (!this.#pools.has(vip.pool)) throw new XdpilotError('E_DATAPATH', `vip ${vipKey(vip)} names pool ${vip.pool}, which was never put`);
		return vip;
	}

	#dropBackend(backend: FakeBackend): void {
		for (const [key, flow] of this.#flows) if (flow.backend === backend.id) this.#flows.delete(key);
		this.#pools.get(backend.pool)?.backends.delete(backend.address);
		this.#backends.delete(backend.id);
		this.#backendIds.retire(backend.id);
		this.#backendIds.release(backend.id);
		this.journal.push(`remove ${backend.pool} ${backend.address}`);
	}

	#dropPool(name: string): void {
		const pool = this.#pools.get(name);
		if (!pool) return;
		for (const backend of pool.backends.values()) this.#dropBackend(backend);
		this.#pools.delete(name);
		this.#poolIds.retire(pool.id);
		this.#poolIds.release(pool.id);
		this.journal.push(`remove pool ${name}`);
	}

	#entry(vip: Vip, flow: dp.Flow) {
		const entry = this.#flows.get(flowName(vip, flow));
		if (!entry) return undefined;
		const backend = this.#backends.get(entry.backend);
		const age = this.#env.now() - entry.seen;
		const usable = backend !== undefined && backend.state !== 'down' && !(entry.udp && age > UDP_IDLE_MS);
		return { id: entry.backend, address: backend?.address ?? null, ageSeconds: age / 1000, established: entry.established, usable };
	}

	#remember(vip: Vip, flow: dp.Flow, backend: number, hit: boolean): void {
		const entry = { vip: vipKey(vip), backend, established: hit, seen: this.#env.now(), udp: flow.protocol === 'udp' };
		this.#flows.set(flowName(vip, flow), entry);
	}

	#count(vip: Vip, bytes: number, isNew: boolean): void {
		const old = this.#vipPackets.get(vipKey(vip)) ?? { packets: 0n, bytes: 0n, newFlows: 0n };
		const next = { packets: old.packets + 1n, bytes: old.bytes + BigInt(bytes), newFlows: old.newFlows + (isNew ? 1n : 0n) };
		this.#vipPackets.set(vipKey(vip), next);
	}

	#serialised<T>(work: () => Promise<T>): Promise<T> {
		const run = this.#queue.then(() => {
			this.#assertOpen();
			return work();
		});
		this.#queue = run.catch(() => undefined);
		return run;
	}

	#assertOpen(): void {
		if (this.#closed) throw new XdpilotError('E_DATAPATH', 'the datapath is closed');
	}
}

function actualPool(name: string, pool: FakePool): dp.ActualPool {
	const { ring, generation } = pool;
	const weights = new Map(ring?.spec.members.map((m) => [m.address, m.weight]));
	const backends = [...pool.backends.values()].map(({ address, state, encap, local }): [Address, dp.ActualBackend] => {
		const slots = ring?.counts[ring.spec.members.findIndex((m) => m.address === address)] ?? 0;
		return [address, { address, state, encap, local, weight: weights.get(address) ?? 0, slots }];
	});
	const actualRing = ring && { hash: ring.spec.hash, digest: ring.digest, generation, inputs: inputsDigest(ring.spec, ring.slots.length) };
	return { name, ring: actualRing, backends: new Map(backends) };
}

function backendCounters(pool: FakePool): Map<Address, dp.TrafficCounters> {
	return new Map([...pool.backends.values()].map((b) => [b.address, { packets: b.packets, bytes: b.bytes }]));
}

function flowName(vip: Vip, flow: dp.Flow): string {
	const { source, sourcePort, destPort } = flowKey(vip, flow).table;
	return `${vipKey(vip)} ${flow.dest} ${source.join('.')} ${sourcePort} ${destPort}`;
}

function sameVips(a: ReadonlyMap<string, Vip>, b: ReadonlyMap<string, Vip>): boolean {
	const same = (x: Vip | undefined, y: Vip) => x?.pool === y.pool && x.flags.join() === y.flags.join();
	return a.size === b.size && [...b].every(([key, vip]) => same(a.get(key), vip));
}
