// SPDX-License-Identifier: Apache-2.0
// How instances have gone, as far as etcd proves it. A delete event is an act: its owner's, or its lease's. Absence
// from a list proves something only if the list belongs to the same history and is not empty; all else is `missing`
// or `blank`.
import type { AbsenceKind } from '../../model/snapshot.ts';
import type { Vanished } from '../publisher.ts';
import { NO_LEASE } from './service-view.ts';

export interface Evidence {
	/** Deleted by an event, and not put again. */
	readonly deleted: ReadonlySet<string>;
	/** A complete list of the same history, no older than what is known, has entries of the service, but not them. */
	readonly isListProof: boolean;
	/** The entry is there, but can't be used. */
	readonly isListed: (id: string) => boolean;
	readonly leaseOf: (id: string) => string;
	/** Asks the registry. */
	readonly hasLeaseEnded: (lease: string) => Promise<boolean>;
}

/** Lease queries at a time. */
const CONCURRENT = 32;

/** The kinds that are proven, by instance id. Never rejects: a lease that can't be asked about decides nothing. */
export async function departures({ gone, doubted }: Vanished, evidence: Evidence): Promise<Map<string, AbsenceKind>> {
	const acts = gone.map((i) => i.id).filter((id) => evidence.deleted.has(id));
	const unlisted = evidence.isListProof ? [...gone, ...doubted].map((i) => i.id).filter((id) => !evidence.isListed(id)) : [];
	const proven = [...new Set([...acts, ...unlisted])];
	const ended = await endedLeases(proven.map(evidence.leaseOf), evidence.hasLeaseEnded);
	return new Map(proven.map((id) => [id, ended.has(evidence.leaseOf(id)) ? 'lease-expired' : 'deregistered']));
}

async function endedLeases(leases: readonly string[], hasEnded: Evidence['hasLeaseEnded']): Promise<Set<string>> {
	const wanted = [...new Set(leases)].filter((l) => l !== NO_LEASE);
	const ended = new Set<string>();
	for (let i = 0; i < wanted.length; i += CONCURRENT) {
		const batch = wanted.slice(i, i + CONCURRENT);
		const answers = await Promise.all(batch.map((lease) => hasEnded(lease).catch(() => undefined)));
		for (const [k, lease] of batch.entries()) if (answers[k] === true) ended.add(lease);
		// The registry does not answer: the rest would only wait in vain.
		if (answers.includes(undefined)) break;
	}
	return ended;
}
