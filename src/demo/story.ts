// SPDX-License-Identifier: Apache-2.0
// What happened in a demo, as it is written down while it runs: who did what when, and what the daemon showed at that
// moment. Judged afterwards by judge.ts, together with the records of client and backends.
import type { StatusReport } from '../observe/report.ts';
import type { SlotMoves } from './ring-expectation.ts';
import type { Exchange } from './traffic/exchange.ts';
import type { BackendRecord } from './traffic/tally.ts';

/** A change in the registry and the swap that it led to; wall clock, milliseconds. */
export interface ChangeStory {
	readonly backend: string;
	/** When the registry confirmed the write, or the process was killed. */
	readonly at: number;
	/** When packets took the new rings of all pools concerned. */
	readonly swapAt: number;
	/** Null where the daemon could not compare, all pools taken together. */
	readonly slots: SlotMoves | null;
	/** Mean of what Maglev moves beyond the unavoidable, slots of all these pools. */
	readonly expectedBeyond: number;
	/** Slots of all these pools. */
	readonly ofSlots: number;
}

export interface Story {
	/** First request, and the end of the last phase. */
	readonly from: number;
	readonly to: number;
	readonly join: ChangeStory;
	readonly leave: ChangeStory;
	readonly death: ChangeStory;
	readonly daemonKilledAt: number;
	readonly daemonBackAt: number;
	readonly afterRestart: Pick<StatusReport, 'adopted' | 'ring_swaps' | 'mode'>;
	readonly exchanges: readonly Exchange[];
	readonly records: readonly BackendRecord[];
}
