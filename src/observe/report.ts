// SPDX-License-Identifier: Apache-2.0
// What `status --json` and `why --json` print and the control socket answers: a stable interface, additive only.
// Every fact is a boolean, a name or a number here, never only a phrase; unknown is null.
import type { Address } from '../model/address.ts';
import type { BackendState } from '../model/backend.ts';
import type { RejectedInstance } from '../model/snapshot.ts';
import type { Protocol, VipFlag } from '../model/vip.ts';
import type { PoolState } from '../reconcile/status.ts';
import type { SourceStatus } from '../sources/source.ts';

/**
 * degraded = something is broken that an operator must mend; holding = the guard keeps instances that a registry no
 * longer lists; adopted = the state of an earlier daemon forwards, and not every source has answered yet; else ok.
 * The first that applies, in this order.
 */
export type DaemonState = 'ok' | 'adopted' | 'holding' | 'degraded';

export interface VipReport {
	/** One address, or address/length for a prefix. */
	readonly address: string;
	readonly port: number;
	readonly protocol: Protocol;
	readonly pool: string;
	readonly flags: readonly VipFlag[];
	readonly packets: number;
	/** IP bytes. */
	readonly bytes: number;
	/** Packets that found no flow-table entry and took the ring. */
	readonly new_flows: number;
}

export interface BackendReport {
	readonly address: Address;
	readonly weight: number;
	readonly state: BackendState;
	readonly local: boolean;
	/** Ring slots; null while the ring was adopted and not rebuilt. */
	readonly slots: number | null;
	readonly packets: number;
	readonly bytes: number;
	/** Why it is in this state, in words; null when it is simply active. */
	readonly note: string | null;
}

export interface PoolReport {
	readonly name: string;
	readonly source: string;
	readonly service: string;
	readonly state: PoolState;
	readonly answered: boolean;
	readonly revision: string | null;
	readonly ring: { readonly size: number; readonly digest: string | null; readonly generation: number } | null;
	readonly backends: readonly BackendReport[];
	readonly rejected: readonly RejectedInstance[];
	readonly hold: {
		readonly reason: string;
		/** ISO 8601, as all times here. */
		readonly since: string;
		readonly until: string;
		readonly removed: number;
		readonly of: number;
	} | null;
	readonly error: string | null;
	readonly last_change: ChangeReport | null;
}

export interface ChangeReport {
	readonly revision: string;
	readonly at: string;
	/** From the registry's answer to the packets that took it. */
	readonly latency_ms: number;
	readonly apply_ms: number;
	/** Ring slots moved and, of these, those that no table could have kept. */
	readonly moved: number | null;
	readonly unavoidable: number | null;
	readonly summary: string;
}

export interface StatusReport {
	readonly schema: 'xdpilot.status/v1';
	readonly version: string;
	readonly pid: number;
	readonly started_at: string;
	readonly state: DaemonState;
	/** One sentence each, the gravest first. What its owner may have meant (an empty pool, a refused instance) leaves state ok. */
	readonly problems: readonly string[];
	/** The first of `interfaces`. */
	readonly interface: string;
	readonly interfaces: readonly string[];
	readonly mode: 'native' | 'generic' | 'none';
	/** True when pinned state of an earlier daemon was taken over at the start. */
	readonly adopted: boolean;
	readonly vips: readonly VipReport[];
	readonly waiting_vips: readonly { readonly vip: string; readonly reason: string }[];
	readonly pools: readonly PoolReport[];
	readonly sources: readonly SourceStatus[];
	/** Ring writes since the start; 0 after an adoption with an unchanged registry. */
	readonly ring_swaps: number;
	readonly counters: Readonly<Record<string, number>>;
	/** Dropped frames by reason. */
	readonly drops: Readonly<Record<string, number>>;
}

export interface WhyReport {
	readonly schema: 'xdpilot.why/v1';
	readonly flow: {
		readonly source: Address;
		readonly source_port: number;
		readonly dest: Address;
		readonly dest_port: number;
		readonly protocol: Protocol;
	};
	/** Identity of the vip, null when the packet belongs to none and is passed on. */
	readonly vip: string | null;
	readonly pool: string | null;
	readonly via: 'flow-table' | 'ring' | 'none';
	readonly backend: { readonly address: Address; readonly state: BackendState; readonly note: string | null } | null;
	readonly flow_entry: {
		readonly backend: Address | null;
		readonly age_seconds: number;
		readonly established: boolean;
		readonly usable: boolean;
	} | null;
	readonly slot: number | null;
	readonly ring: {
		readonly generation: number;
		readonly size: number | null;
		readonly digest: string | null;
		readonly backend: Address | null;
	} | null;
	/** Name of the reason when the packet is dropped. */
	readonly drop: string | null;
	/** What the registry said, on which the ring rests. */
	readonly registry: {
		readonly source: string;
		readonly service: string;
		readonly revision: string | null;
		readonly change: ChangeReport | null;
	} | null;
	readonly hold: PoolReport['hold'];
	/** All of this as a person would tell a colleague. */
	readonly sentence: string;
}
