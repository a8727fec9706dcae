// SPDX-License-Identifier: Apache-2.0
// Short ways to write instances, snapshots and guard rules in tests.
import { Admission, type AdmissionFacts } from '../../src/guard/admit.ts';
import type { GuardPolicy } from '../../src/guard/guard.ts';
import { address } from '../../src/model/address.ts';
import type { Absence, AbsenceKind, Instance, RejectedInstance, Snapshot } from '../../src/model/snapshot.ts';

/** Instance `i<n>` at 10.0.<n/256>.<n%256>, passing with weight 1. */
export function instance(n: number, over: Partial<Instance> = {}): Instance {
	return {
		id: `i${n}`,
		address: address(`10.0.${n >> 8}.${n & 255}`),
		port: 0,
		weight: 1,
		state: 'active',
		reason: 'passing',
		local: false,
		...over,
	};
}

export function gone(kind: AbsenceKind, ...numbers: number[]): Absence[] {
	return numbers.map((n) => ({ instance: `i${n}`, kind }));
}

export function snapshot(
	instances: readonly (number | Instance)[],
	over: { absences?: readonly Absence[]; rejected?: readonly RejectedInstance[]; revision?: string; observedAt?: number } = {},
): Snapshot {
	return {
		source: 'registry',
		service: 'web',
		revision: '1',
		observedAt: 0,
		instances: instances.map((i) => (typeof i === 'number' ? instance(i) : i)),
		rejected: [],
		absences: [],
		...over,
	};
}

export function admission(facts: Partial<AdmissionFacts> = {}): Admission {
	return new Admission({ allowed: 'any', own: [], vips: [], maxBackends: 64, ...facts });
}

export const POLICY: GuardPolicy = { panicThreshold: 0.5, holdMs: 600_000, drainMs: 30_000 };
