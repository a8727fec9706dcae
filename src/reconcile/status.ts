// SPDX-License-Identifier: Apache-2.0
// What a reconcile knows about itself, for people and for metrics. Types only: the reconciler fills them in,
// observe turns them into `status`. Nothing here is read back by the loop.
import type { Address } from '../model/address.ts';
import type { BackendState } from '../model/backend.ts';
import type { RejectedInstance } from '../model/snapshot.ts';
import type { Vip } from '../model/vip.ts';

/**
 * error = the last write of this pool failed; held = the guard keeps instances that the registry no longer lists;
 * empty = no backend takes new flows; stale = its source does not answer, the last good state serves; else ok.
 * The first that applies, in this order.
 */
export type PoolState = 'ok' | 'held' | 'empty' | 'stale' | 'error';

export interface HoldStatus {
	/** One sentence. */
	readonly reason: string;
	/** Milliseconds since the Unix epoch. */
	readonly since: number;
	/** Active backends that the registry no longer lists and that are kept. */
	readonly removed: number;
	/** Active backends that they were part of. */
	readonly of: number;
	/** When the hold ends by itself, in milliseconds since the Unix epoch. */
	readonly until: number;
}

export interface BackendStatus {
	readonly address: Address;
	/** As its source wants it, also while it is not in the ring. */
	readonly weight: number;
	/** What packets get. */
	readonly state: BackendState;
	readonly local: boolean;
	/** Ring slots; null while the ring was adopted and not rebuilt. */
	readonly slots: number | null;
	/** Why it is in this state, in words; null when it is simply active. */
	readonly note: string | null;
}

/** The last time that the data plane was written for a pool. */
export interface LastChange {
	/** Revision of the registry that it rests on. */
	readonly revision: string;
	/** Milliseconds since the Unix epoch at which packets took it. */
	readonly at: number;
	/** Milliseconds from the arrival of the registry's answer to that moment. */
	readonly latencyMs: number;
	/** Milliseconds of this that the writes took. */
	readonly applyMs: number;
	/** Ring slots moved and, of these, those that no table could have kept; null when no ring was swapped or it isn't known. */
	readonly moved: number | null;
	readonly unavoidable: number | null;
	/** One sentence, e.g. "10.0.0.4 added". */
	readonly summary: string;
}

export interface PoolStatus {
	readonly name: string;
	readonly source: string;
	readonly service: string;
	readonly state: PoolState;
	/** False until the source answered for the first time; until then the adopted state is left as it is. */
	readonly answered: boolean;
	/** Of the last accepted answer; null before the first. */
	readonly revision: string | null;
	readonly ring: { readonly size: number; readonly digest: string | null; readonly generation: number } | null;
	/** Sorted by address. */
	readonly backends: readonly BackendStatus[];
	readonly rejected: readonly RejectedInstance[];
	readonly hold: HoldStatus | null;
	readonly error: string | null;
	readonly lastChange: LastChange | null;
}

export interface ReconcileStatus {
	/** Sorted by name. */
	readonly pools: readonly PoolStatus[];
	/** What the data plane forwards now. */
	readonly vips: readonly Vip[];
	/** Vips of the configuration that can't be served yet, with the reason. */
	readonly waitingVips: readonly { readonly vip: string; readonly reason: string }[];
	/** The last failure that belongs to no single pool; null once mended. */
	readonly error: string | null;
	/** Reconciles that wrote something since the start. */
	readonly applied: number;
	/** Ring writes since the start; 0 after an adoption with an unchanged registry. */
	readonly swaps: number;
}
