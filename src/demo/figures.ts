// SPDX-License-Identifier: Apache-2.0
// What a demo found out, as `demo --json` prints it: a stable interface, additive only. Every promise carries what was
// promised, what was found, and whether it was kept.
import type { RegistryKind } from './registry/registry.ts';

export interface PromiseFigure {
	readonly id: PromiseId;
	readonly promise: string;
	readonly found: string;
	readonly kept: boolean;
}

export type PromiseId =
	| 'baseline-no-failures'
	| 'join-no-failures'
	| 'join-takes-traffic'
	| 'leave-no-failures'
	| 'leave-takes-no-new-flows'
	| 'death-failures-end-with-swap'
	| 'daemon-kill-no-failures'
	| 'restart-adopts'
	| 'no-flow-moved'
	| 'records-agree';

/** Ring slots of the pools that one change touched. */
export interface SlotFigures {
	readonly moved: number;
	/** Slots that no table could have kept. */
	readonly unavoidable: number;
	readonly beyond: number;
	/** What Maglev moves beyond them on average, for the same sizes. */
	readonly maglev_expects_beyond: number;
	readonly of: number;
}

export interface ChangeFigures {
	readonly backend: string;
	/** From the registry's confirmation to the ring in the data plane, as the daemon's status shows it. */
	readonly write_to_swap_ms: number | null;
	/** From the registry's confirmation to the first (joining) or last (leaving) new flow there, as the client saw it. */
	readonly write_to_traffic_ms: number | null;
	readonly slots: SlotFigures | null;
	readonly requests: number;
	readonly failed: number;
}

export interface DemoFigures {
	readonly schema: 'xdpilot.demo/v1';
	readonly source: RegistryKind;
	/** Why another source than the one asked for; null when it is that. */
	readonly fallback: string | null;
	readonly setup_seconds: number;
	readonly seconds: number;
	readonly mode: string;
	readonly requests: { readonly total: number; readonly failed: number; readonly by_kind: Readonly<Record<string, number>> };
	readonly baseline: { readonly by_backend: Readonly<Record<string, number>>; readonly failed: number };
	readonly join: ChangeFigures;
	readonly leave: ChangeFigures;
	readonly death: {
		readonly backend: string;
		readonly kill_to_swap_ms: number;
		readonly failed_before_swap: number;
		readonly failed_after_swap: number;
		readonly slots: SlotFigures | null;
	};
	readonly daemon_kill: {
		readonly down_ms: number;
		readonly requests_while_down: number;
		readonly failed: number;
		readonly adopted: boolean;
		readonly ring_swaps: number;
	};
	readonly flows: { readonly seen: number; readonly moved: number; readonly unconfirmed: number };
	readonly why: { readonly flow: string; readonly sentence: string };
	readonly promises: readonly PromiseFigure[];
	readonly kept: boolean;
}
