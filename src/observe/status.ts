// SPDX-License-Identifier: Apache-2.0
// Puts the daemon's state together for `status`: pure, from what the datapath counts, the sources know and the
// reconciler did. Nothing is cached: two reports differ only by what happened between them.

import type { DatapathCounters, DatapathInfo } from '../datapath/datapath.ts';
import { isoTime } from '../env.ts';
import { type Address, familyOf, formatPrefix } from '../model/address.ts';
import { isHost, type Vip, vipKey } from '../model/vip.ts';
import type { HoldStatus, LastChange, PoolStatus, ReconcileStatus } from '../reconcile/status.ts';
import type { SourceStatus } from '../sources/source.ts';
import { formatAge } from './age.ts';
import type { ChangeReport, DaemonState, PoolReport, StatusReport, VipReport } from './report.ts';

export interface StatusInputs {
	readonly version: string;
	readonly pid: number;
	/** Milliseconds since the Unix epoch. */
	readonly startedAt: number;
	readonly info: DatapathInfo;
	readonly counters: DatapathCounters;
	readonly sources: readonly SourceStatus[];
	readonly reconcile: ReconcileStatus;
}

export function buildStatus(inputs: StatusInputs): StatusReport {
	const { info, counters, reconcile, sources } = inputs;
	return {
		schema: 'xdpilot.status/v1',
		version: inputs.version,
		pid: inputs.pid,
		started_at: isoTime(inputs.startedAt),
		state: daemonState(inputs),
		problems: problemsOf(inputs),
		interface: info.interface,
		interfaces: [info.interface],
		mode: info.mode,
		adopted: info.adopted,
		vips: reconcile.vips.map((vip) => vipReport(vip, counters)),
		waiting_vips: reconcile.waitingVips,
		pools: reconcile.pools.map((pool) => poolReport(pool, counters)),
		sources,
		ring_swaps: reconcile.swaps,
		counters: asNumbers(counters.global),
		drops: asNumbers(counters.drops),
	};
}

/** See DaemonState. */
export function daemonState({ info, sources, reconcile }: Pick<StatusInputs, 'info' | 'sources' | 'reconcile'>): DaemonState {
	const broken = reconcile.error !== null || info.mode === 'none' || reconcile.pools.some((pool) => pool.state === 'error');
	if (broken || sources.some((source) => source.state === 'down' || source.state === 'stale')) return 'degraded';
	if (reconcile.pools.some((pool) => pool.hold !== null)) return 'holding';
	if (info.adopted && reconcile.pools.some((pool) => !pool.answered)) return 'adopted';
	return sources.some(isUnanswered) ? 'degraded' : 'ok';
}

/** The line for systemd and for the log: "serving 2 vips, 3 pools; etcd 0.2s; web holds 3 of 8". */
export function statusLine({ info, sources, reconcile }: Pick<StatusInputs, 'info' | 'sources' | 'reconcile'>): string {
	const state = daemonState({ info, sources, reconcile });
	const ages = sources.map((s) => `${s.name} ${s.state === 'up' ? formatAge(s.age_seconds ?? 0) : s.state}`);
	const holds = reconcile.pools.flatMap(({ name, hold }) => (hold === null ? [] : [`${name} keeps ${hold.removed} of ${hold.of}`]));
	const serving = `${state === 'ok' ? '' : `${state}: `}serving ${counted(reconcile.vips.length, 'vip')}, ${counted(reconcile.pools.length, 'pool')}`;
	return [serving, ...ages, ...holds].join('; ');
}

function problemsOf({ info, sources, reconcile }: StatusInputs): string[] {
	const lines: string[] = [];
	if (reconcile.error !== null) lines.push(reconcile.error);
	if (info.mode === 'none') lines.push(`no program is attached to ${info.interface}: nothing is forwarded`);
	for (const pool of reconcile.pools) if (pool.error !== null) lines.push(`pool ${pool.name}: ${pool.error}`);
	for (const source of sources) {
		if (source.state === 'down' || source.state === 'stale' || isUnanswered(source)) lines.push(sourceProblem(source));
	}
	for (const { name, hold } of reconcile.pools) if (hold !== null) lines.push(`pool ${name} is held: ${hold.reason}`);
	for (const pool of reconcile.pools) if (pool.state === 'empty' && pool.answered) lines.push(`pool ${pool.name} has no active backend`);
	for (const { vip, reason } of reconcile.waitingVips) lines.push(`vip ${vip} is not served yet: ${reason}`);
	for (const pool of reconcile.pools) {
		lines.push(...familyProblem(pool, reconcile.vips));
		if (pool.rejected.length > 0) lines.push(`pool ${pool.name}: ${counted(pool.rejected.length, 'instance')} refused`);
	}
	return lines;
}

/** Half of a dual-stack vip's flows would vanish without a word otherwise. */
function familyProblem(pool: PoolStatus, vips: readonly Vip[]): string[] {
	const ipv6 = vips.find((vip) => vip.pool === pool.name && familyOf(vip.prefix.address) === 6);
	const ipv4 = pool.backends.filter(({ state, address }) => state === 'active' && familyOf(address) === 4).length;
	if (ipv6 === undefined || ipv4 === 0) return [];
	return [`pool ${pool.name}: ${counted(ipv4, 'IPv4 backend')} can't serve ${vipKey(ipv6)}: its packets for them are dropped`];
}

/** Asked in vain since the start; without an error it has merely not been waited for yet. */
function isUnanswered({ state, error }: SourceStatus): boolean {
	return state === 'never' && error !== null;
}

function sourceProblem({ name, state, age_seconds: age, error }: SourceStatus): string {
	const why = error === null ? '' : ` (${error})`;
	if (state === 'never') return `source ${name} has never answered${why}`;
	const since = age === null ? 'has never answered' : `last answered ${formatAge(age)} ago`;
	return `source ${name} is ${state}: it ${since}${why}`;
}

function vipReport(vip: Vip, counters: DatapathCounters): VipReport {
	const seen = counters.vips.get(vipKey(vip));
	return {
		address: isHost(vip.prefix) ? vip.prefix.address : formatPrefix(vip.prefix),
		port: vip.port,
		protocol: vip.protocol,
		pool: vip.pool,
		flags: vip.flags,
		packets: Number(seen?.packets ?? 0n),
		bytes: Number(seen?.bytes ?? 0n),
		new_flows: Number(seen?.newFlows ?? 0n),
	};
}

function poolReport(pool: PoolStatus, counters: DatapathCounters): PoolReport {
	const traffic = counters.backends.get(pool.name) ?? new Map<Address, never>();
	return {
		name: pool.name,
		source: pool.source,
		service: pool.service,
		state: pool.state,
		answered: pool.answered,
		revision: pool.revision,
		ring: pool.ring,
		backends: pool.backends.map((backend) => {
			const seen = traffic.get(backend.address);
			return { ...backend, packets: Number(seen?.packets ?? 0n), bytes: Number(seen?.bytes ?? 0n) };
		}),
		rejected: pool.rejected,
		hold: holdReport(pool.hold),
		error: pool.error,
		last_change: pool.lastChange && changeReport(pool.lastChange),
	};
}

export function holdReport(hold: HoldStatus | null): PoolReport['hold'] {
	return hold && { reason: hold.reason, since: isoTime(hold.since), until: isoTime(hold.until), removed: hold.removed, of: hold.of };
}

export function changeReport(change: LastChange): ChangeReport {
	return {
		revision: change.revision,
		at: isoTime(change.at),
		latency_ms: change.latencyMs,
		apply_ms: change.applyMs,
		moved: change.moved,
		unavoidable: change.unavoidable,
		summary: change.summary,
	};
}

function asNumbers(counters: Readonly<Record<string, bigint>>): Record<string, number> {
	return Object.fromEntries(Object.entries(counters).map(([name, value]) => [name, Number(value)]));
}

function counted(n: number, noun: string): string {
	return `${n} ${noun}${n === 1 ? '' : 's'}`;
}
