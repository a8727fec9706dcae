// SPDX-License-Identifier: Apache-2.0
// The sink: XDP programs and maps, behind the one interface that reconcile and observe know.
// BpfDatapath is the real one, test/support/fake-datapath.ts its twin; both pass the same contract suite.
//
// Order of writes is make-before-break: backends, then rings (which name backend ids), then vips (which name
// pools); removal in reverse. Every operation is idempotent: repeating it is harmless, removing the absent
// succeeds. An operation that throws has changed nothing that packets can see, unless it says otherwise.
import type { Address } from '../model/address.ts';
import type { BackendState } from '../model/backend.ts';
import type { Encap, HashFunction } from '../model/pool.ts';
import type { Vip } from '../model/vip.ts';

/** Fixed when the program is loaded. */
export interface DatapathLimits {
	/** Slots of every ring; prime. */
	readonly ringSize: number;
	readonly maxBackendsPerPool: number;
	readonly maxPools: number;
	readonly maxBackends: number;
	readonly maxVips: number;
}

export interface BackendPut {
	readonly pool: string;
	readonly address: Address;
	readonly state: BackendState;
	readonly encap: Encap;
	readonly local: boolean;
}

export interface RingMember {
	readonly address: Address;
	/** 1..65535 */
	readonly weight: number;
}

/** The inputs of one ring. The ring is a pure function of them: not of ids, time or arrival order. */
export interface RingSpec {
	readonly pool: string;
	readonly hash: HashFunction;
	/**
	 * Sorted by address, each once; empty clears the slot, and packets to it are dropped under their own reason.
	 * An empty ring of an unknown pool creates the pool: a vip may be served by one that has no backends yet.
	 */
	readonly members: readonly RingMember[];
}

/** How one swap moved slots. */
export interface RingSwap {
	readonly pool: string;
	readonly generation: number;
	/** `sha256:<hex>` of design "ring digest"; null for an empty ring. */
	readonly digest: string | null;
	/** Slots whose backend changed; null when the previous ring is not known (adopted). */
	readonly moved: number | null;
	/** Of these, slots whose previous backend left or shrank: no table could keep them. */
	readonly unavoidable: number | null;
}

export interface ActualBackend {
	readonly address: Address;
	readonly state: BackendState;
	readonly encap: Encap;
	readonly local: boolean;
	/** Weight in the current ring; 0 = not in it. */
	readonly weight: number;
	/** Ring slots; null when the ring was adopted and not rebuilt yet. */
	readonly slots: number | null;
}

export interface ActualPool {
	readonly name: string;
	/** null while no ring was ever written. */
	readonly ring: {
		readonly hash: HashFunction;
		readonly digest: string | null;
		readonly generation: number;
		readonly inputs: string;
	} | null;
	/** By address. */
	readonly backends: ReadonlyMap<Address, ActualBackend>;
}

/** What the maps hold. */
export interface ActualState {
	readonly pools: ReadonlyMap<string, ActualPool>;
	/** By vipKey(). */
	readonly vips: ReadonlyMap<string, Vip>;
}

export interface TrafficCounters {
	readonly packets: bigint;
	/** IP bytes: the length field of the IP header, as Katran counts. */
	readonly bytes: bigint;
}

export interface VipCounters extends TrafficCounters {
	/** Packets that found no usable flow-table entry and took the ring. */
	readonly newFlows: bigint;
}

export interface DatapathCounters {
	/** By vipKey(). */
	readonly vips: ReadonlyMap<string, VipCounters>;
	/** By pool, then address. */
	readonly backends: ReadonlyMap<string, ReadonlyMap<Address, TrafficCounters>>;
	/** Every counter of `enum lb_counter`, by its lower-case name without prefix. */
	readonly global: Readonly<Record<string, bigint>>;
	/** Dropped frames by reason of `enum lb_drop`, by its lower-case name without prefix. */
	readonly drops: Readonly<Record<string, bigint>>;
}

export interface DatapathInfo {
	readonly interface: string;
	readonly mode: 'native' | 'generic' | 'none';
	/** True when pinned state of an earlier daemon was taken over. */
	readonly adopted: boolean;
}

/** A flow as a client's packet carries it. */
export interface Flow {
	readonly source: Address;
	readonly sourcePort: number;
	readonly dest: Address;
	readonly destPort: number;
	readonly protocol: 'tcp' | 'udp';
}

/** Where a flow goes now. Reads the live tables, changes none of them. */
export interface FlowVerdict {
	/** vipKey(), or null: the packet is passed on, it belongs to no vip. */
	readonly vip: string | null;
	readonly pool: string | null;
	readonly via: 'flow-table' | 'ring' | 'none';
	readonly backend: { readonly address: Address; readonly state: BackendState } | null;
	/** The flow-table entry, if there is one; `usable` is false when it is expired or its backend is down. */
	readonly entry: {
		readonly address: Address | null;
		readonly ageSeconds: number;
		readonly established: boolean;
		readonly usable: boolean;
	} | null;
	/** The ring slot of this flow, whether used or not. */
	readonly slot: number | null;
	/** The backend that the ring has in that slot. */
	readonly ringBackend: Address | null;
	readonly generation: number | null;
	/** Name of the drop reason when there is no backend. */
	readonly drop: string | null;
}

export interface Datapath {
	readonly limits: DatapathLimits;
	readonly info: DatapathInfo;
	actual(): ActualState;

	/**
	 * Stage 1: creates missing pools and backends, and sets state, encapsulation and locality of known ones.
	 * Each change is one aligned 8-byte store to packets.
	 * @throws XdpilotError E_LIMIT when ids are used up; earlier puts of the same call stay
	 */
	putBackends(puts: readonly BackendPut[]): void;

	/**
	 * Stage 2: builds the rings off the event loop and swaps all of them in with one batch; packets see each
	 * ring whole, old or new. Resolves after the grace period of the swap. Calls are serialised.
	 * Every member must have been put. A ring with unchanged inputs is not rebuilt and not listed in the result.
	 */
	swapRings(rings: readonly RingSpec[]): Promise<RingSwap[]>;

	/**
	 * Stage 3: makes exactly these the vips, by building the inactive of two tables and flipping one index word.
	 * Every pool named must exist. A set equal to the present one changes nothing.
	 */
	putVips(vips: Iterable<Vip>): Promise<void>;

	/** Server ids (QUIC connection ids, TCP server ids) -> backend address, in the implicit pool. Replaces the whole map. */
	putServerIds(ids: ReadonlyMap<number, Address>, encap: Encap): Promise<void>;

	/**
	 * Stage 4: retires backends that no ring names any more. Their ids are reused only after a grace period and
	 * a sweep of the flow table, so an old flow never lands on a stranger. Resolves when the ids are free.
	 */
	removeBackends(pool: string, addresses: readonly Address[]): Promise<void>;
	/** Removes pools that no vip names, with their backends. */
	removePools(names: readonly string[]): Promise<void>;

	/** New gateway MAC (6 bytes) for everything sent from now on. */
	setGatewayMac(mac: Uint8Array): void;

	counters(): DatapathCounters;
	/** Live flow-table entries per backend, by pool and address: one scan of the table, off the event loop. */
	countFlows(): Promise<ReadonlyMap<string, ReadonlyMap<Address, number>>>;
	explain(flow: Flow): FlowVerdict;

	/** Lets go of everything; pinned programs and maps keep forwarding. */
	close(): Promise<void>;
}
