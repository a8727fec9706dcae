// SPDX-License-Identifier: Apache-2.0
// A daemon's state for tests of what is made of it: one pool of two backends, all well. Override what a test is about.
import type { DatapathCounters } from '../../src/datapath/datapath.ts';
import { address } from '../../src/model/address.ts';
import type { StatusInputs } from '../../src/observe/status.ts';
import type { PoolStatus, ReconcileStatus } from '../../src/reconcile/status.ts';

/** Milliseconds since the Unix epoch: 2026-11-23T12:00:00Z. */
export const NOON = 1_795_435_200_000;

export function poolStatus(over: Partial<PoolStatus> = {}): PoolStatus {
	return {
		name: 'web',
		source: 'etcd',
		service: 'web',
		state: 'ok',
		answered: true,
		revision: '45',
		ring: { size: 65_537, digest: `sha256:${'ab'.repeat(32)}`, generation: 7 },
		backends: [
			{ address: address('10.0.0.1'), weight: 1, state: 'active', local: false, slots: 32_769, note: null },
			{ address: address('10.0.0.2'), weight: 1, state: 'active', local: false, slots: 32_768, note: null },
		],
		rejected: [],
		hold: null,
		error: null,
		lastChange: {
			revision: '45',
			at: NOON - 192_000,
			latencyMs: 61.5,
			applyMs: 9.5,
			moved: 32_768,
			unavoidable: 32_768,
			summary: '10.0.0.2 added',
		},
		...over,
	};
}

export function reconcileStatus(over: Partial<ReconcileStatus> = {}): ReconcileStatus {
	const prefix = { address: address('203.0.113.10'), length: 32 };
	return {
		pools: [poolStatus()],
		vips: [{ prefix, port: 443, protocol: 'tcp', pool: 'web', flags: [] }],
		waitingVips: [],
		error: null,
		applied: 2,
		swaps: 2,
		...over,
	};
}

export function counters(): DatapathCounters {
	return {
		vips: new Map([['203.0.113.10:443/tcp', { packets: 1000n, bytes: 64_000n, newFlows: 12n }]]),
		backends: new Map([['web', new Map([[address('10.0.0.1'), { packets: 600n, bytes: 40_000n }]])]]),
		global: { packets: 1000n },
		drops: { no_backend: 0n, truncated: 3n },
	};
}

export function statusInputs(over: Partial<StatusInputs> = {}): StatusInputs {
	return {
		version: '0.1.0',
		pid: 4711,
		startedAt: NOON - 3_600_000,
		info: { interface: 'eth0', mode: 'native', adopted: false },
		counters: counters(),
		sources: [{ name: 'etcd', kind: 'etcd', state: 'up', age_seconds: 0.2, error: null }],
		reconcile: reconcileStatus(),
		...over,
	};
}
