// SPDX-License-Identifier: Apache-2.0
// The guard of one pool: from the last belief and a snapshot to the next belief. Pure.
// An absence that the registry proves (deregistered, lease expired, a failed check) passes at once. One that it does not prove
// passes only while enough of the pool is left; beyond that the members are kept until the absences are proven, the
// members come back, or the hold ends. What is listed always counts: a hold never delays an addition or a failed check.
import type { Address } from '../model/address.ts';
import type { AbsenceKind, Instance, Snapshot } from '../model/snapshot.ts';
import type { Admission, Admitted } from './admit.ts';
import { type Belief, type DepartureKind, type Hold, isServing, type Member } from './belief.ts';

export interface GuardPolicy {
	/** Share of the serving members, 0..1, that must be left after unproven removals. */
	readonly panicThreshold: number;
	/** Milliseconds that a snapshot below it is held back. */
	readonly holdMs: number;
	/** Milliseconds that a draining member keeps its flows. */
	readonly drainMs: number;
}

export interface Question {
	readonly pool: string;
	readonly belief: Belief;
	readonly snapshot: Snapshot;
	readonly admission: Admission;
	readonly policy: GuardPolicy;
	/** Env.now() */
	readonly now: number;
	/** A hold does not run out on the word of a source that can't be reached. */
	readonly sourceUp: boolean;
	/** The configuration names another service since the belief was formed. */
	readonly otherService: boolean;
}

export interface Judgement {
	readonly belief: Belief;
	/** The data plane must change. */
	readonly changed: boolean;
	/** A serving member failed: waiting for more news would cost its clients. */
	readonly urgent: boolean;
	/** Env.now() at which the same question has another answer; null when only news can change it. */
	readonly nextAt: number | null;
}

const PROVEN: readonly DepartureKind[] = ['deregistered', 'lease-expired', 'replaced', 'other-service'];
/** Their flows can't be served any more. */
const DEAD: readonly DepartureKind[] = ['lease-expired', 'node-gone'];

export function judge(q: Question): Judgement {
	const view = viewOf(q);
	const unlisted = [...q.belief.members.values()].filter(
		// One that may not be a backend any more goes at once: it must get no packet, not even of an old flow.
		(m) => !view.admitted.instances.has(m.address) && q.admission.addressRefusal(q.pool, m.address, m.local) === undefined,
	);
	const kinds = new Map(unlisted.map((m) => [m, departureKind(q, view, m)] as const));
	const isUnproven = (m: Member) => !PROVEN.includes(kinds.get(m) ?? 'missing');
	const going = view.serving.length > 0 ? [] : unlisted.filter((m) => m.isRecallable && m.state === 'draining' && isUnproven(m));
	const suspects = [...unlisted.filter((m) => m.leaving === null && isServing(m) && isUnproven(m)), ...going];
	const { hold, believed, isOver } = weigh(q, view, suspects, going.length, kinds);
	const kept = new Set(hold === null ? [] : suspects);

	const members = new Map<Address, Member>();
	for (const instance of view.admitted.instances.values()) members.set(instance.address, listed(q, instance, hold !== null));
	for (const [m, kind] of kinds) {
		const next = kept.has(m) ? keep(m, kind) : leave(q, m, kind, isUnproven(m) && !isOver);
		if (next !== null) members.set(m.address, next);
	}
	const rejected = [...view.admitted.rejected, ...q.snapshot.rejected];
	const belief: Belief = { members, departures: ofMembers(view, members), believed, hold, rejected };
	return { belief, ...compare(q.belief, belief), nextAt: nextAt(q, belief) };
}

/** The snapshot, indexed once for all members. */
interface View {
	readonly admitted: Admitted;
	readonly listedIds: ReadonlySet<string>;
	readonly rejectedIds: ReadonlySet<string>;
	/** How instances have gone, as far as it was told. */
	readonly departures: ReadonlyMap<string, AbsenceKind>;
	/** Listed instances that take new flows. */
	readonly serving: readonly Instance[];
}

function viewOf(q: Question): View {
	const admitted = q.admission.admit(q.pool, q.snapshot.instances);
	const instances = [...admitted.instances.values()];
	return {
		admitted,
		listedIds: new Set(instances.map((i) => i.id)),
		rejectedIds: new Set([...admitted.rejected, ...q.snapshot.rejected].map((r) => r.instance)),
		departures: new Map([...q.belief.departures, ...q.snapshot.absences.map((a) => [a.instance, a.kind] as const)]),
		serving: instances.filter((i) => i.state === 'active' && i.weight > 0),
	};
}

/** A source tells only once how an instance went; that is kept for as long as its member is. */
function ofMembers(view: View, members: ReadonlyMap<Address, Member>): Map<string, AbsenceKind> {
	const unlisted = new Set([...members.values()].flatMap((m) => (view.admitted.instances.has(m.address) ? [] : (m.instance ?? []))));
	return new Map([...view.departures].filter(([id]) => unlisted.has(id)));
}

/** What is told counts, however late; without it, what was thought of this member before stands. */
function departureKind(q: Question, view: View, m: Member): DepartureKind {
	if (q.otherService && view.serving.length > 0) return 'other-service';
	const id = m.instance;
	if (id !== null && view.listedIds.has(id)) return 'replaced';
	if (id !== null && view.rejectedIds.has(id)) return 'rejected';
	const told = id === null ? undefined : view.departures.get(id);
	return told ?? m.leaving ?? m.kept ?? (q.snapshot.instances.length === 0 ? 'blank' : 'missing');
}

/**
 * Whether the suspects may go. They are weighed against what served before and still does, not against what came in
 * their place. `going` of them are on their way out already and count again only because nothing else would be left.
 * Removals that were believed lately count again, less what has joined since: a slow leak is held like a
 * sudden one, a rolling deployment is not.
 */
function weigh(q: Question, view: View, suspects: readonly Member[], going: number, kinds: ReadonlyMap<Member, DepartureKind>) {
	const since = q.belief.hold?.since ?? q.now;
	const before = view.serving.flatMap((i) => q.belief.members.get(i.address) ?? []).filter(isServing);
	const joined = view.serving.length - before.length;
	const left = before.filter((m) => !m.isNewcomer).length;
	const lately = q.belief.believed.filter((at) => q.now - at < q.policy.holdMs).slice(joined + going);
	const removed = suspects.length + lately.length;
	const of = left + removed;
	const isPanic = suspects.length > 0 && (view.serving.length === 0 || left < q.policy.panicThreshold * of);
	if (!isPanic) return { hold: null, believed: [...lately, ...suspects.map(() => q.now)], isOver: false };
	const until = since + q.policy.holdMs;
	if (q.now >= until && q.sourceUp) return { hold: null, believed: [], isOver: true };
	const how = [...new Set(suspects.map((m) => kinds.get(m) ?? 'missing'))].sort().join(', ');
	const reason = `${removed} of ${of} serving backends are gone from ${q.snapshot.source} without proof that they were removed or failed (${how})`;
	const hold: Hold = { since, until, removed, of, reason };
	return { hold, believed: lately, isOver: false };
}

/** A suspect of a hold stays as it was; one that was believed to be gone and would leave nothing behind comes back. */
function keep(m: Member, kind: DepartureKind): Member {
	return { ...m, state: 'active', leaving: null, kept: kind, isRecallable: false, until: null };
}

/** A member that the registry lists. */
function listed(q: Question, instance: Instance, isHeld: boolean): Member {
	const was = q.belief.members.get(instance.address);
	const { address, weight, local, id, reason } = instance;
	const wanted = instance.state === 'active' && weight === 0 ? 'draining' : instance.state;
	const base = { address, weight, local, instance: id, reason, leaving: null, kept: null, isRecallable: false, isNewcomer: false };
	if (wanted === 'active') {
		const isNewcomer = isHeld && (was === undefined || !isServing(was) || was.isNewcomer);
		return { ...base, state: wanted, isNewcomer, until: null };
	}
	if (wanted === 'down') return { ...base, state: wanted, until: null };
	// Down stays down: its flows have been moved already, and a restart must not bring a drained backend back.
	if (was?.state === 'down') return { ...base, state: 'down', until: null };
	const until = drainEnd(q, was);
	return until > q.now ? { ...base, state: 'draining', until } : { ...base, state: 'down', until: null };
}

/** An unlisted member on its way out; null when it can go. Dead ones stay listed as down for as long as others drain, so that a flapping one keeps its id. */
function leave(q: Question, m: Member, kind: DepartureKind, isDoubtful: boolean): Member | null {
	const until = m.leaving === null ? drainEnd(q, m) : (m.until ?? q.now);
	if (until <= q.now) return null;
	const state = DEAD.includes(kind) || m.state === 'down' ? 'down' : 'draining';
	const isRecallable = isDoubtful && (m.leaving === null ? isServing(m) : m.isRecallable);
	return { ...m, state, leaving: kind, kept: null, isRecallable, until };
}

function drainEnd(q: Question, was: Member | undefined): number {
	return was?.state === 'draining' && was.until !== null ? was.until : q.now + q.policy.drainMs;
}

function compare(before: Belief, after: Belief): { changed: boolean; urgent: boolean } {
	let changed = before.members.size !== after.members.size;
	let urgent = false;
	for (const m of after.members.values()) {
		const was = before.members.get(m.address);
		const same = was !== undefined && was.state === m.state && was.weight === m.weight && was.local === m.local;
		changed ||= !same;
		urgent ||= m.state === 'down' && was !== undefined && isServing(was);
	}
	return { changed, urgent };
}

const RECHECK_MS = 1000;

function nextAt(q: Question, belief: Belief): number | null {
	const ends = [...belief.members.values()].flatMap((m) => m.until ?? []);
	// Past its end a hold lives on only while the source is away: look again soon.
	if (belief.hold !== null) ends.push(Math.max(belief.hold.until, q.now >= belief.hold.until ? q.now + RECHECK_MS : 0));
	return ends.length === 0 ? null : Math.min(...ends);
}
