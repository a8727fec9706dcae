// SPDX-License-Identifier: Apache-2.0
// Everything a source knows about one pool at one revision. Sources emit snapshots, never deltas; what
// disappeared, and how, is typed here by the source, because only the source can tell.
import type { Address } from './address.ts';
import type { BackendState } from './backend.ts';

/** Why an instance is in the state it is in, in the registry's own terms. */
export type InstanceReason = 'passing' | 'warning' | 'check-failed' | 'maintenance' | 'node-failed' | 'weight-zero' | 'declared';

/** One instance as the registry lists it, already validated. */
export interface Instance {
	/** Unique within the pool's service: Consul node + service id, etcd key, endpoint in a file. */
	readonly id: string;
	readonly address: Address;
	/** 0 = not stated. Direct server return keeps the port, so it must equal the vip's. */
	readonly port: number;
	readonly weight: number;
	readonly state: BackendState;
	readonly reason: InstanceReason;
	readonly local: boolean;
}

/** An entry that could not be used, with the reason an operator reads in `status`. */
export interface RejectedInstance {
	readonly instance: string;
	readonly reason: string;
}

/**
 * How an instance that the previous snapshot had has gone.
 * `deregistered` and `lease-expired` are explicit acts or proven deaths; the others are suspicions.
 */
export type AbsenceKind =
	| 'deregistered' // the registry says so: a delete event, or gone from a list that is provably complete
	| 'lease-expired' // its lease or TTL ended
	| 'node-gone' // its node left the catalog
	| 'missing' // not in a fresh list, and nothing proves why
	| 'blank'; // the whole service is gone from the list at once, and nothing proves why

export interface Absence {
	readonly instance: string;
	readonly kind: AbsenceKind;
}

export interface Snapshot {
	/** Name of the source in the configuration. */
	readonly source: string;
	/** Name of the service in the registry. */
	readonly service: string;
	/** Consul index or etcd mod revision, for people; never compared for order. */
	readonly revision: string;
	/** Env.now() when the answer that this rests on had arrived. */
	readonly observedAt: number;
	/** Sorted by id. */
	readonly instances: readonly Instance[];
	readonly rejected: readonly RejectedInstance[];
	/** What disappeared since the previous snapshot of the same watch, or disappeared before and is explained only now; empty for the first. */
	readonly absences: readonly Absence[];
}

/** Equal in everything but revision and time. */
export function sameContent(a: Snapshot, b: Snapshot): boolean {
	const content = (s: Snapshot) => JSON.stringify([s.instances, s.rejected]);
	return content(a) === content(b);
}
