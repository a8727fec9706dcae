// SPDX-License-Identifier: Apache-2.0
// Why a flow goes where it goes: the data plane's verdict, what the registry said before, and one sentence that a
// person would tell a colleague.
import type { Flow, FlowVerdict } from '../datapath/datapath.ts';
import { formatEndpoint } from '../model/vip.ts';
import type { PoolStatus } from '../reconcile/status.ts';
import { formatAge } from './age.ts';
import type { WhyReport } from './report.ts';
import { changeReport, holdReport } from './status.ts';

export interface WhyInputs {
	readonly flow: Flow;
	readonly verdict: FlowVerdict;
	/** Of the verdict's pool; undefined when no pool of that name is configured any more. */
	readonly pool: PoolStatus | undefined;
	/** Vips that are configured and not served yet, by vipKey(), with the reason. */
	readonly waiting: readonly { readonly vip: string; readonly reason: string }[];
	/** Milliseconds since the Unix epoch. */
	readonly now: number;
}

export function explainFlow(inputs: WhyInputs): WhyReport {
	const { flow, verdict, pool } = inputs;
	const known = pool?.backends.find((backend) => backend.address === verdict.backend?.address);
	return {
		schema: 'xdpilot.why/v1',
		flow: {
			source: flow.source,
			source_port: flow.sourcePort,
			dest: flow.dest,
			dest_port: flow.destPort,
			protocol: flow.protocol,
		},
		vip: verdict.vip,
		pool: verdict.pool,
		via: verdict.via,
		backend: verdict.backend && { ...verdict.backend, note: known?.note ?? null },
		flow_entry: verdict.entry && {
			backend: verdict.entry.address,
			age_seconds: verdict.entry.ageSeconds,
			established: verdict.entry.established,
			usable: verdict.entry.usable,
		},
		slot: verdict.slot,
		ring:
			verdict.generation === null
				? null
				: {
						generation: verdict.generation,
						size: pool?.ring?.size ?? null,
						digest: pool?.ring?.digest ?? null,
						backend: verdict.ringBackend,
					},
		drop: verdict.drop,
		registry: pool
			? {
					source: pool.source,
					service: pool.service,
					revision: pool.revision,
					change: pool.lastChange && changeReport(pool.lastChange),
				}
			: null,
		hold: holdReport(pool?.hold ?? null),
		sentence: sentences(inputs).join(' '),
	};
}

function sentences(inputs: WhyInputs): string[] {
	const { flow, verdict, waiting } = inputs;
	const from = formatEndpoint(flow.source, flow.sourcePort);
	const to = `${formatEndpoint(flow.dest, flow.destPort)}/${flow.protocol}`;
	if (verdict.vip === null) {
		const everyPort = `${formatEndpoint(flow.dest, 0)}/${flow.protocol}`;
		const wait = waiting.find(({ vip }) => vip === to || vip === everyPort);
		const why = wait === undefined ? 'no vip here' : `configured but not served yet (${wait.reason})`;
		return [`${to} is ${why}, so packets from ${from} are passed on to the host untouched.`];
	}
	if (verdict.backend === null) {
		const reason = verdict.drop === null ? 'no backend can be found' : verdict.drop.replaceAll('_', ' ');
		return [`Packets from ${from} to ${to} are dropped: ${reason} (vip ${verdict.vip}, pool ${verdict.pool}).`, ...background(inputs)];
	}
	if (verdict.drop !== null) {
		const would = `they would go to ${verdict.backend.address}, ${because(inputs)}`;
		return [
			`Packets from ${from} to ${to} are dropped: ${dropReason(verdict.drop, verdict.backend.address)}; ${would}.`,
			...background(inputs),
		];
	}
	return [`${from} goes to ${verdict.backend.address} for ${to}, ${because(inputs)}.`, ...caveats(inputs), ...background(inputs)];
}

/** The drop of a packet that has a backend, in words. */
function dropReason(drop: string, backend: string): string {
	if (drop === 'backend_family') return `IPv6 packets can't be sent to an IPv4 backend (backend_family)`;
	if (drop === 'backend_self') return `${backend} is this host itself (backend_self)`;
	return drop.replaceAll('_', ' ');
}

/** The rest of "A goes to B for C, ...". */
function because({ verdict, pool }: WhyInputs): string {
	if (verdict.via === 'flow-table' && verdict.entry !== null) {
		const seen = `its flow is in the flow table, last seen ${formatAge(verdict.entry.ageSeconds)} ago`;
		if (verdict.ringBackend === null || verdict.ringBackend === verdict.backend?.address) return `because ${seen}`;
		return `because ${seen}; a new flow would take ring slot ${verdict.slot} and go to ${verdict.ringBackend}`;
	}
	const size = pool?.ring ? ` of ${pool.ring.size}` : '';
	return `because a new flow takes ring slot ${verdict.slot}${size} of pool ${verdict.pool} (ring generation ${verdict.generation})`;
}

function caveats({ verdict, pool }: WhyInputs): string[] {
	const out: string[] = [];
	if (verdict.entry !== null && !verdict.entry.usable) {
		const was = verdict.entry.address === null ? 'a backend that is gone' : verdict.entry.address;
		out.push(`Its flow-table entry for ${was} no longer counts: it is expired or that backend is down.`);
	}
	const backend = pool?.backends.find(({ address }) => address === verdict.backend?.address);
	if (verdict.backend?.state === 'draining') {
		out.push(
			`${verdict.backend.address} is draining${backend?.note ? ` (${backend.note})` : ''}: it keeps this flow but takes no new ones.`,
		);
	}
	return out;
}

/** What the registry has to do with it. */
function background({ pool, now }: WhyInputs): string[] {
	if (pool === undefined) return [];
	const { lastChange: change, hold } = pool;
	const out: string[] = [];
	if (change !== null) {
		const age = formatAge((now - change.at) / 1000);
		const what = change.summary === '' ? '' : `: ${change.summary}`;
		out.push(`The pool last changed ${age} ago, at revision ${change.revision} of ${pool.source}${what}.`);
	} else if (pool.revision !== null) {
		out.push(`The pool is as ${pool.source} has it at revision ${pool.revision}, unchanged since the daemon started.`);
	}
	if (hold !== null) out.push(`The guard holds the pool: ${hold.reason}.`);
	return out;
}
