// SPDX-License-Identifier: Apache-2.0
// What the guard believes about one pool: its members, each with the state that the data plane should give it and
// the reason. Immutable data; guard.ts makes the next belief from the last.
import { type Address, sortedByAddress } from '../model/address.ts';
import type { Backend, BackendState } from '../model/backend.ts';
import type { AbsenceKind, InstanceReason, RejectedInstance } from '../model/snapshot.ts';

/** Why a member that the registry lists no more is going; `rejected`: its entry became unusable; `replaced`: its instance has another address now. */
export type DepartureKind = AbsenceKind | 'rejected' | 'replaced' | 'other-service';

export interface Member {
	readonly address: Address;
	readonly weight: number;
	readonly state: BackendState;
	readonly local: boolean;
	/** Id of its instance; null for one that was adopted and not listed yet. */
	readonly instance: string | null;
	/** In the registry's terms while listed; null when adopted. */
	readonly reason: InstanceReason | null;
	/** Set while it is on its way out. */
	readonly leaving: DepartureKind | null;
	/** Set while the guard keeps it although the registry lists it no more. */
	readonly kept: DepartureKind | null;
	/** Leaving without proof, though it served: it comes back if nothing else is left. */
	readonly isRecallable: boolean;
	/** Came during the present hold: does not make up for what is held. */
	readonly isNewcomer: boolean;
	/** Env.now() at which a draining member goes down, or a leaving one is removed. */
	readonly until: number | null;
}

export interface Hold {
	/** Env.now() at which it began. */
	readonly since: number;
	/** Env.now() at which it ends by itself. */
	readonly until: number;
	readonly removed: number;
	readonly of: number;
	/** One sentence. */
	readonly reason: string;
}

export interface Belief {
	readonly members: ReadonlyMap<Address, Member>;
	/** How instances have gone that had members; kept while their members are, since a source says it only once. */
	readonly departures: ReadonlyMap<string, AbsenceKind>;
	/** Env.now() of each unproven removal that was believed lately: many small ones are one big one. */
	readonly believed: readonly number[];
	readonly hold: Hold | null;
	readonly rejected: readonly RejectedInstance[];
}

export const NO_BELIEF: Belief = { members: new Map(), departures: new Map(), believed: [], hold: null, rejected: [] };

/** The belief of a daemon that found a running data plane: what packets see is the last good state. */
export function adoptedBelief(backends: Iterable<Backend>): Belief {
	const members = [...backends].map((b): [Address, Member] => [
		b.address,
		{
			address: b.address,
			weight: b.weight,
			state: b.state,
			local: b.local,
			instance: null,
			reason: null,
			isRecallable: false,
			isNewcomer: false,
			leaving: null,
			kept: null,
			until: null,
		},
	]);
	return { ...NO_BELIEF, members: new Map(members) };
}

/** What the data plane should hold for this pool, sorted by address. */
export function backendsOf(belief: Belief): Backend[] {
	const backends = [...belief.members.values()].map(({ address, weight, state, local }) => ({ address, weight, state, local }));
	return sortedByAddress(backends, (b) => b.address);
}

export function isServing(m: Member): boolean {
	return m.state === 'active' && m.weight > 0;
}
