// SPDX-License-Identifier: Apache-2.0
// What the reconciler keeps about one pool, and its status made from that and from what the maps hold.
import type { ActualBackend, ActualPool } from '../datapath/datapath.ts';
import type { Env } from '../env.ts';
import type { Hold, Member } from '../guard/belief.ts';
import type { PoolGuard } from '../guard/pool-guard.ts';
import { type Address, sortedByAddress } from '../model/address.ts';
import type { SourceState } from '../sources/source.ts';
import type { Failure } from './failure.ts';
import type { PoolSettings } from './settings.ts';
import type { BackendStatus, HoldStatus, LastChange, PoolState, PoolStatus } from './status.ts';

export interface PoolRecord {
	settings: PoolSettings;
	readonly guard: PoolGuard;
	/** In the queue. */
	isDirty: boolean;
	/** Answered, and a round has been over it. */
	isSettled: boolean;
	/** Of the oldest news that no round has taken yet: Env.now() of its arrival; null without any. */
	cause: { readonly revision: string; readonly at: number } | null;
	readonly failure: Failure;
	lastChange: LastChange | null;
}

export function poolStatus(
	record: PoolRecord,
	actual: ActualPool | undefined,
	ringSize: number,
	source: SourceState,
	env: Env,
): PoolStatus {
	const { settings, guard, failure, lastChange } = record;
	const { hold, rejected } = guard.belief;
	const backends = backendStatus(guard, actual, env);
	return {
		name: settings.name,
		source: settings.source,
		service: settings.service,
		state: stateOf(record, backends, source),
		answered: guard.snapshot !== null,
		revision: guard.snapshot?.revision ?? null,
		ring: actual?.ring ? { size: ringSize, digest: actual.ring.digest, generation: actual.ring.generation } : null,
		backends,
		rejected,
		hold: hold === null ? null : holdStatus(hold, env),
		error: failure.message,
		lastChange,
	};
}

function stateOf(record: PoolRecord, backends: readonly BackendStatus[], source: SourceState): PoolState {
	if (record.failure.message !== null) return 'error';
	if (record.guard.belief.hold !== null) return 'held';
	if (!backends.some((b) => b.state === 'active' && b.weight > 0)) return 'empty';
	return record.guard.snapshot === null || source !== 'up' ? 'stale' : 'ok';
}

function holdStatus(hold: Hold, env: Env): HoldStatus {
	const offset = env.wallNow() - env.now();
	const { reason, removed, of } = hold;
	return { reason, removed, of, since: Math.round(hold.since + offset), until: Math.round(hold.until + offset) };
}

/** What the maps hold, with the weight and the reason that are believed; and what they do not hold yet. */
function backendStatus(guard: PoolGuard, actual: ActualPool | undefined, env: Env): BackendStatus[] {
	const held = actual?.backends ?? new Map<Address, ActualBackend>();
	const desired = guard.desired() ?? [];
	const wanted = new Set(desired.map((b) => b.address));
	const rows = desired.flatMap(({ address }) => {
		const m = guard.belief.members.get(address);
		return m === undefined ? [] : believed(m, held.get(address), env.now());
	});
	const others = [...held.values()]
		.filter((b) => !wanted.has(b.address))
		.map(({ encap: _, ...b }): BackendStatus => ({ ...b, note: null }));
	return others.length === 0 ? rows : sortedByAddress([...rows, ...others], (b) => b.address);
}

function believed(m: Member, held: ActualBackend | undefined, now: number): BackendStatus {
	if (held === undefined) return notYet(m);
	const { address, state, local, slots } = held;
	return { address, weight: m.weight, state, local, slots, note: noteOf(m, now) };
}

/** Packets don't know it, whatever it is going to be. */
function notYet({ address, weight, local }: Member): BackendStatus {
	return { address, weight, state: 'down', local, slots: 0, note: 'not written to the data plane yet' };
}

const WORDS: Readonly<Record<string, string>> = {
	warning: 'its check warns',
	'check-failed': 'its check fails',
	maintenance: 'in maintenance',
	'node-failed': 'its node fails',
	'weight-zero': 'its weight is 0',
	deregistered: 'deregistered',
	'lease-expired': 'its lease expired',
	'node-gone': 'its node left',
	missing: 'no longer listed',
	blank: 'no longer listed',
	rejected: 'its entry became unusable',
	replaced: 'its instance has another address',
	'other-service': 'not part of the service that is configured now',
};

function noteOf(m: Member, now: number): string | null {
	if (m.kept !== null) return `kept by the guard: ${WORDS[m.kept] ?? m.kept}`;
	const why = m.leaving ?? (m.reason === 'passing' || m.reason === 'declared' ? null : m.reason);
	if (why === null) return null;
	const left =
		m.until === null ? '' : `, ${m.state === 'draining' ? 'drains' : 'listed'} for ${Math.max(0, Math.ceil((m.until - now) / 1000))} s`;
	return `${WORDS[why] ?? why}${left}`;
}
