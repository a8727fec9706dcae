// SPDX-License-Identifier: Apache-2.0
// From the configuration and facts of the host to what each part is made with. Pure.
import type { Config, PoolConfig, SourceConfig } from '../config/schema.ts';
import type { DatapathOptions } from '../datapath/options.ts';
import { XdpilotError } from '../errors.ts';
import { Admission } from '../guard/admit.ts';
import type { OwnAddress } from '../guard/deny.ts';
import type { Address } from '../model/address.ts';
import { familyOf } from '../model/address.ts';
import { isHost } from '../model/vip.ts';
import type { Desired } from '../reconcile/desired.ts';
import type { PoolSettings, Settings } from '../reconcile/settings.ts';
import type { ServiceQuery } from '../sources/source.ts';

/** What is known of the machine; a simulation knows nothing. */
export interface HostFacts {
	/** All addresses of this host with their subnets. */
	readonly own: readonly OwnAddress[];
	/** Those of the interface that is served, for the outer source of GUE. */
	readonly interface: readonly Address[];
	/** 6 bytes: destination of everything sent. */
	readonly gatewayMac: Uint8Array;
}

/** What the program is loaded with. */
export function datapathOptions(config: Config, facts: HostFacts): DatapathOptions {
	const { datapath } = config;
	const { decap } = datapath;
	const source = (family: 4 | 6, configured: 'auto' | Address) =>
		configured === 'auto' ? (facts.interface.find((a) => familyOf(a) === family) ?? null) : configured;
	return {
		limits: {
			ringSize: datapath.ring_size,
			maxBackendsPerPool: datapath.max_backends_per_pool,
			maxPools: datapath.max_pools,
			maxBackends: datapath.max_backends,
			maxVips: datapath.max_vips,
		},
		flowEntries: datapath.flow_entries,
		flowTable: datapath.flow_table,
		maxFrame: datapath.max_frame,
		tooBig: datapath.too_big,
		udpIdleMs: datapath.udp_idle,
		newFlowLimit: datapath.new_flow_limit,
		serverIds: usesServerIds(config),
		tcpServerId: datapath.tcp_server_id,
		prefixVips: usesPrefixVips(config),
		gue: {
			port: datapath.gue_port,
			source4: source(4, datapath.encap_source.ipv4),
			source6: source(6, datapath.encap_source.ipv6),
			checksum: datapath.gue_checksum,
		},
		decap: {
			ipip: decap.ipip,
			gue: decap.gue,
			strict: decap.strict,
			destinations: decap.destinations,
			egress: decap.egress_destinations,
		},
		hashSecret: null,
		gatewayMac: facts.gatewayMac,
		// Where tunnels end here, sending to one would come back, to be unwrapped and sent again.
		ownAddresses: [
			...facts.own.map((o) => o.address),
			...(decap.ipip || decap.gue ? [...decap.destinations, ...decap.egress_destinations] : []),
		],
	};
}

/** Whether the program is loaded with the branch that reads server ids. */
export function usesServerIds({ datapath, vips }: Config): boolean {
	return datapath.server_ids.length > 0 || vips.some((v) => v.flags.includes('quic') || v.flags.includes('udp_stable_routing'));
}

/** Whether the program is loaded with the branch that looks for vips that are prefixes. */
export function usesPrefixVips({ vips }: Pick<Config, 'vips'>): boolean {
	return vips.some((v) => !isHost(v.prefix));
}

/** What the loop works by. @throws XdpilotError E_CONFIG for a server id whose backend may not be one */
export function settingsOf(config: Config, own: readonly OwnAddress[]): Settings {
	const admission = new Admission({
		allowed: config.allowed_backends,
		own,
		vips: config.vips,
		maxBackends: config.datapath.max_backends_per_pool,
	});
	return {
		pools: new Map([...config.pools].map(([name, pool]) => [name, poolSettings(name, pool, config)])),
		vips: config.vips,
		serverIds: serverIdsOf(config, admission),
		admission,
	};
}

export function queryOf(pool: PoolConfig): ServiceQuery {
	const { service, tags, datacenter } = pool.from;
	return { service, tags, ...(datacenter === undefined ? {} : { datacenter }) };
}

/** What decides which instances a source lists; credentials and timeouts do not. */
export function identityOf(source: SourceConfig): string {
	switch (source.kind) {
		case 'consul':
			return JSON.stringify([source.kind, source.address, source.datacenter]);
		case 'etcd':
			return JSON.stringify([source.kind, source.endpoints.map((e) => e.url), source.prefix, source.layout]);
		case 'file':
			return JSON.stringify([source.kind, source.path]);
	}
}

function poolSettings(name: string, pool: PoolConfig, config: Config): PoolSettings {
	const source = config.sources.get(pool.from.source);
	return {
		name,
		source: pool.from.source,
		service: pool.from.service,
		query: JSON.stringify([source === undefined ? null : identityOf(source), queryOf(pool)]),
		hash: pool.hash,
		encap: pool.encap,
		guard: { panicThreshold: pool.guard.panic_threshold, holdMs: pool.guard.hold, drainMs: pool.drain },
		debounce: pool.debounce,
	};
}

function serverIdsOf({ datapath }: Config, admission: Admission): Desired['serverIds'] {
	const ids = new Map<number, Address>();
	for (const { address, ids: numbers } of datapath.server_ids) {
		const refusal = admission.addressRefusal('', address, false);
		if (refusal !== undefined) throw new XdpilotError('E_CONFIG', `datapath.server_ids: ${refusal}`, { unaffected: 'nothing was changed' });
		for (const id of numbers) ids.set(id, address);
	}
	return { ids, encap: datapath.encap };
}
