// SPDX-License-Identifier: Apache-2.0
// Random desired states for properties of the planner, small enough that states overlap, collide and shrink well.
import fc from 'fast-check';
import type { ActualState } from '../../src/datapath/datapath.ts';
import { type Address, address, compareAddresses } from '../../src/model/address.ts';
import type { Backend, BackendState } from '../../src/model/backend.ts';
import type { Pool } from '../../src/model/pool.ts';
import { VIP_FLAGS, type Vip, vipKey } from '../../src/model/vip.ts';
import type { Desired } from '../../src/reconcile/desired.ts';

const POOLS = ['api', 'db', 'web'] as const;

export function backend(n: number, over: Partial<Backend> = {}): Backend {
	return { address: address(n > 250 ? `fd00::${n.toString(16)}` : `10.0.0.${n}`), weight: 1, state: 'active', local: false, ...over };
}

export function poolOf(name: string, backends: readonly Backend[], over: Partial<Pool> = {}): Pool {
	return {
		name,
		hash: 'maglev-v2',
		encap: 'ipip',
		backends: [...backends].sort((a, b) => compareAddresses(a.address, b.address)),
		...over,
	};
}

export function vipOf(n: number, pool: string, over: Partial<Vip> = {}): Vip {
	return { prefix: { address: address(`203.0.113.${n}`), length: 32 }, port: 443, protocol: 'tcp', pool, flags: [], ...over };
}

export function desiredOf(pools: readonly Pool[], vips: readonly Vip[] = [], over: Partial<Desired> = {}): Desired {
	return {
		pools: new Map(pools.map((p) => [p.name, p])),
		vips: new Map(vips.map((v) => [vipKey(v), v])),
		unanswered: new Set(),
		serverIds: null,
		waitingVips: new Map(),
		...over,
	};
}

const anyBackend = fc.record({
	n: fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 251, max: 253 })),
	state: fc.constantFrom<BackendState>('active', 'active', 'draining', 'down'),
	weight: fc.constantFrom(0, 1, 1, 2, 100),
	local: fc.boolean(),
});

const anyPool = (name: string) =>
	fc
		.record({
			rows: fc.uniqueArray(anyBackend, { selector: (b) => b.n, maxLength: 6 }),
			hash: fc.constantFrom('maglev-v1' as const, 'maglev-v2' as const),
			encap: fc.constantFrom('ipip' as const, 'gue' as const),
		})
		.map(({ rows, hash, encap }) =>
			poolOf(
				name,
				rows.map(({ n, ...b }) => backend(n, b)),
				{ hash, encap },
			),
		);

/** Pools of three names, vips of five addresses, each served by a pool that is there. */
export const anyDesired: fc.Arbitrary<Desired> = fc.subarray([...POOLS]).chain((names) =>
	fc
		.record({
			pools: fc.tuple(...names.map(anyPool)),
			vips: fc.uniqueArray(
				fc.record({
					n: fc.integer({ min: 1, max: 5 }),
					pool: fc.nat(2),
					flag: fc.option(fc.constantFrom(...VIP_FLAGS), { nil: undefined }),
				}),
				{ selector: (v) => v.n, maxLength: 5 },
			),
		})
		.map(({ pools, vips }) =>
			desiredOf(
				pools,
				names.length === 0
					? []
					: vips.map((v) => vipOf(v.n, names[v.pool % names.length] ?? '', { flags: v.flag === undefined ? [] : [v.flag] })),
			),
		),
);

/** What the maps hold, in the terms of what was desired: equal means nothing is left to do. */
export function heldBy(actual: ActualState): unknown {
	return {
		pools: [...actual.pools.values()]
			.map((p) => ({
				name: p.name,
				hash: p.ring?.hash ?? null,
				backends: [...p.backends.values()].sort((a, b) => compareAddresses(a.address, b.address)).map(({ slots: _, ...b }) => b),
			}))
			.sort((a, b) => (a.name < b.name ? -1 : 1)),
		vips: [...actual.vips].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, v]) => v),
	};
}

/** The same for a desired state. Weights count for ring members only. */
export function wantedBy(desired: Desired): unknown {
	const weightOf = (b: Backend) => (b.state === 'active' ? b.weight : 0);
	return {
		pools: [...desired.pools.values()]
			.map((p) => ({
				name: p.name,
				hash: p.hash,
				backends: p.backends.map((b) => ({
					address: b.address as Address,
					state: b.state,
					encap: p.encap,
					local: b.local,
					weight: weightOf(b),
				})),
			}))
			.sort((a, b) => (a.name < b.name ? -1 : 1)),
		vips: [...desired.vips].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, v]) => v),
	};
}
