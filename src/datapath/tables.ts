// SPDX-License-Identifier: Apache-2.0
// All tables over the maps of one instance, wired together. No behaviour of its own.
import { randomBytes } from 'node:crypto';
import type { Env } from '../env.ts';
import type { BpfMap } from '../native/addon.d.ts';
import type { NativeAddon } from '../native/binding.ts';
import { nativeRingBuilder, RingFactory } from '../ring/ring.ts';
import type { LbConfig } from './abi.gen.ts';
import { BackendTable } from './backend-table.ts';
import { Counters } from './counters.ts';
import { FlowTable } from './flow-table.ts';
import type { Instance } from './instance.ts';
import { Inventory } from './inventory.ts';
import { type DatapathOptions, scratchSlot } from './options.ts';
import { OuterMap } from './outer-map.ts';
import { PoolTable } from './pool-table.ts';
import { newInnerMap, RingStore } from './ring-store.ts';
import { RingSwaps } from './ring-swaps.ts';
import { ServerIds } from './server-ids.ts';
import { VipPrefixes } from './vip-prefixes.ts';
import { VipSet } from './vip-set.ts';
import { VipTable } from './vip-table.ts';

export interface Tables {
	readonly config: LbConfig;
	readonly backends: BackendTable;
	readonly inventory: Inventory;
	readonly vips: VipTable;
	readonly prefixes: VipPrefixes;
	readonly vipSet: VipSet;
	readonly serverIds: ServerIds;
	readonly flows: FlowTable;
	readonly counters: Counters;
	readonly outer: OuterMap;
	readonly rings: RingSwaps;
	/** In the scratch slots; held until the end. */
	readonly scratch: BpfMap;
}

/** Reads nothing and writes nothing yet. */
export function openTables(native: NativeAddon, env: Env, instance: Instance, options: DatapathOptions): Tables {
	const { maps, config, clock } = instance;
	const { limits } = options;
	const cpus = native.possibleCpus();
	const pools = new PoolTable(maps.pool_rows.mmap(), limits.maxPools + 1);
	const backends = new BackendTable(maps.backends.mmap(), config.maxBackends, options.gatewayMac, new Set(options.ownAddresses));
	const inventory = new Inventory(pools, backends, limits);
	const vipMemory = { control: maps.control.mmap(), vips4: maps.vips4.mmap(), vips6: maps.vips6.mmap() };
	const vips = new VipTable(vipMemory, config.vipBits, () => randomBytes(8).readBigUInt64LE());
	const prefixes = new VipPrefixes(maps.vip_prefixes);
	const counterMemory = { vips: maps.vip_counters.mmap(), backends: maps.backend_counters.mmap(), cpus: maps.counters.mmap() };
	const scratch = newInnerMap(native, limits);
	const outer = new OuterMap(maps.rings, env, { slot: scratchSlot(limits), inner: scratch });
	const factory = new RingFactory(nativeRingBuilder(native), limits.ringSize);
	const store = new RingStore(native, outer, limits);
	const shape = { buckets: config.flowBuckets, tables: config.flowPerCpu === 0 ? 1 : cpus, key: config.flowKey };
	return {
		config,
		backends,
		inventory,
		vips,
		prefixes,
		vipSet: new VipSet(vips, prefixes, config.prefixVips !== 0, inventory, limits.maxVips),
		serverIds: new ServerIds(maps.server_ids, inventory),
		flows: new FlowTable(native, maps.flows.mmap(), shape, clock),
		counters: new Counters(counterMemory, cpus, { vips: config.maxVips, backends: config.maxBackends }),
		outer,
		rings: new RingSwaps({ inventory, pools, backends, store, factory, limits }),
		scratch,
	};
}
