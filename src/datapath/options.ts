// SPDX-License-Identifier: Apache-2.0
// What a datapath is made with: the limits and options that become the program's constants and the maps' sizes.
// Host facts (own addresses, the gateway's MAC) are handed in, never looked up here.
import { createHash } from 'node:crypto';
import { type Address, addressBytes, mappedBytes } from '../model/address.ts';
import {
	DecapFlag,
	encodeLbConfig,
	LB_CONFIG_OFFSET,
	LB_CONFIG_SIZE,
	type LbConfig,
	type MapName,
	RING_HEAD_SIZE,
	TooBigMode,
} from './abi.gen.ts';
import type { Clock } from './clock.ts';
import type { DatapathLimits } from './datapath.ts';
import { prefixEntries } from './vip-prefixes.ts';

export interface DatapathOptions {
	readonly limits: DatapathLimits;
	/** Entries of the flow table in all, 16 bytes each; rounded up to buckets of 8. */
	readonly flowEntries: number;
	readonly flowTable: 'shared' | 'per_cpu';
	/** Bytes, Ethernet header included. */
	readonly maxFrame: number;
	readonly tooBig: 'icmp' | 'drop';
	readonly udpIdleMs: number;
	/** Flow-table inserts a second and CPU; 0 = no limit. */
	readonly newFlowLimit: number;
	/** Whether server ids are used at all: the branch costs nothing when they are not. */
	readonly serverIds: boolean;
	/** Whether TCP segments are searched for one. */
	readonly tcpServerId: boolean;
	/** Whether vips may be prefixes: two lookups in a trie for packets that no address vip takes. */
	readonly prefixVips: boolean;
	readonly gue: {
		readonly port: number;
		readonly source4: Address | null;
		readonly source6: Address | null;
		readonly checksum: 'katran' | 'exact';
	};
	/** Tunnels that end at the balancer. `destinations`: the inner packet is balanced; `egress`: sent back to the router. */
	readonly decap: DecapOptions;
	/** Secret of a fleet that shares no ECMP group with Katran boxes; null = Katran's seeds. */
	readonly hashSecret: Uint8Array | null;
	/** 6 bytes; destination of everything sent. */
	readonly gatewayMac: Uint8Array;
	/** Of this host: encapsulating towards one would loop. */
	readonly ownAddresses: readonly Address[];
}

export interface DecapOptions {
	readonly ipip: boolean;
	readonly gue: boolean;
	/** Leaves tunnel packets alone that are neither for these nor for the GUE source. */
	readonly strict: boolean;
	readonly destinations: readonly Address[];
	readonly egress: readonly Address[];
}

/** Most addresses in each list; the program holds them as constants. */
export const MAX_DECAP_DESTINATIONS = 8;

export const DEFAULT_LIMITS: DatapathLimits = {
	ringSize: 65537,
	maxBackendsPerPool: 4096,
	maxPools: 4096,
	maxBackends: 32_768,
	maxVips: 4096,
};

/** The options of `config/` defaults. */
export const DEFAULT_OPTIONS: DatapathOptions = {
	limits: DEFAULT_LIMITS,
	flowEntries: 4_000_000,
	flowTable: 'shared',
	maxFrame: 1514,
	tooBig: 'icmp',
	udpIdleMs: 30_000,
	newFlowLimit: 0,
	serverIds: false,
	tcpServerId: false,
	prefixVips: false,
	gue: { port: 6080, source4: null, source6: null, checksum: 'katran' },
	decap: { ipip: false, gue: false, strict: true, destinations: [], egress: [] },
	hashSecret: null,
	gatewayMac: new Uint8Array(6),
	ownAddresses: [],
};

/** Slots of the outer ring map behind those of the pools, for grace periods and for timing them. */
export const SCRATCH_SLOTS = 2;

/** Katran's seeds are 512 (its largest number of vips) times the ring size, and 512 for the IPv6 address. */
const KATRAN_VIPS = 512;

/** First scratch slot: one above the highest pool number. Pool 0 is the implicit one of server ids. */
export function scratchSlot(limits: DatapathLimits): number {
	return limits.maxPools + 1;
}

/** Bytes of one ring: head, ranks and ids. */
export function ringBytes(limits: Pick<DatapathLimits, 'ringSize' | 'maxBackendsPerPool'>): number {
	return RING_HEAD_SIZE + 2 * (limits.ringSize + 1) + 4 * limits.maxBackendsPerPool;
}

/**
 * log2 of the buckets of one vip table: two for each vip, since an address takes a place of its own; more for very large
 * sets, whose groups of keys are harder to place.
 */
export function vipBits(limits: DatapathLimits): number {
	const spare = limits.maxVips <= 8192 ? 1 : 3;
	return Math.min(20, Math.max(4, Math.ceil(Math.log2(limits.maxVips)) + spare));
}

/** The constants of the program. */
export function programConfig(
	options: DatapathOptions,
	clock: Pick<Clock, 'hz' | 'shift'>,
	flowKey: readonly bigint[],
	cpus: number,
): LbConfig {
	const { limits, hashSecret, gue } = options;
	const seeds = hashSecret && createHash('sha256').update(hashSecret).digest();
	return {
		flowKey,
		ringSize: limits.ringSize,
		maxBackendsPerPool: limits.maxBackendsPerPool,
		maxVips: limits.maxVips + 1,
		maxBackends: limits.maxBackends + 1,
		vipBits: vipBits(limits),
		flowBuckets: flowBuckets(options, cpus),
		flowPerCpu: options.flowTable === 'per_cpu' ? 1 : 0,
		hashSeed: seeds ? seeds.readUInt32LE(0) : (KATRAN_VIPS * limits.ringSize) >>> 0,
		hashSeed6: seeds ? seeds.readUInt32LE(4) : KATRAN_VIPS,
		maxFrame: options.maxFrame,
		tooBig: options.tooBig === 'icmp' ? TooBigMode.TOO_BIG_ICMP : TooBigMode.TOO_BIG_DROP,
		clockShift: clock.shift,
		udpIdle: Math.round((options.udpIdleMs * clock.hz) / 1000 / 2 ** clock.shift),
		hz: clock.hz,
		newFlowLimit: options.newFlowLimit,
		serverIds: options.serverIds ? 1 : 0,
		gueSource4: gue.source4 === null ? 0 : new DataView(addressBytes(gue.source4).buffer).getUint32(0),
		gueSource6: gue.source6 === null ? new Uint8Array(16) : addressBytes(gue.source6),
		guePort: gue.port,
		gueExact: gue.checksum === 'exact' ? 1 : 0,
		decap: decapFlags(options.decap),
		decapDestinations: addressWords(options.decap.destinations),
		decapEgress: addressWords(options.decap.egress),
		prefixVips: options.prefixVips ? 1 : 0,
		tcpServerId: options.tcpServerId ? 1 : 0,
	};
}

/** max_entries of the maps whose size depends on the options. */
export function mapEntries(options: DatapathOptions, cpus: number): Partial<Record<MapName, number>> {
	const { limits } = options;
	const buckets = 2 * 2 ** vipBits(limits);
	return {
		vips4: buckets,
		vips6: buckets,
		vip_prefixes: prefixEntries(limits.maxVips),
		backends: limits.maxBackends + 1,
		rings: scratchSlot(limits) + SCRATCH_SLOTS,
		flows: flowBuckets(options, cpus) * (options.flowTable === 'per_cpu' ? cpus : 1),
		vip_counters: cpus * (limits.maxVips + 1),
		backend_counters: cpus * (limits.maxBackends + 1),
		counters: cpus,
		pool_rows: limits.maxPools + 1,
	};
}

/** SHA-256 of everything in the constants but the random flow key. */
export function optionsHash(config: LbConfig): Uint8Array {
	const bytes = configBytes(config);
	bytes.fill(0, LB_CONFIG_OFFSET.flowKey, LB_CONFIG_OFFSET.ringSize);
	return createHash('sha256').update(bytes).digest();
}

export function configBytes(config: LbConfig): Uint8Array {
	const bytes = new Uint8Array(LB_CONFIG_SIZE);
	encodeLbConfig(new DataView(bytes.buffer), 0, config);
	return bytes;
}

/** 0 unless something is unwrapped: the program then has no trace of it. */
function decapFlags({ ipip, gue, strict }: DecapOptions): number {
	if (!ipip && !gue) return 0;
	return (ipip ? DecapFlag.DECAP_IPIP : 0) | (gue ? DecapFlag.DECAP_GUE : 0) | (strict ? DecapFlag.DECAP_STRICT : 0);
}

/** Two little-endian words of the bytes as sent for each address, zeros behind the last. */
function addressWords(addresses: readonly Address[]): bigint[] {
	const words = Array.from({ length: 2 * MAX_DECAP_DESTINATIONS }, () => 0n);
	for (const [i, a] of addresses.entries()) {
		const view = new DataView(mappedBytes(a).buffer);
		words[2 * i] = view.getBigUint64(0, true);
		words[2 * i + 1] = view.getBigUint64(8, true);
	}
	return words;
}

/** Buckets of one flow table. */
function flowBuckets(options: DatapathOptions, cpus: number): number {
	const tables = options.flowTable === 'per_cpu' ? cpus : 1;
	return Math.max(1, Math.ceil(options.flowEntries / 8 / tables));
}
