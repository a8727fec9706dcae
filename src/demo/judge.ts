// SPDX-License-Identifier: Apache-2.0
// Judges a demo: turns its story and the records of both ends into figures and promises. Pure, so that a broken promise
// can be shown to be found.
import type { ChangeFigures, DemoFigures, PromiseFigure, PromiseId, SlotFigures } from './figures.ts';
import type { ChangeStory, Story } from './story.ts';
import type { Exchange } from './traffic/exchange.ts';
import {
	answersByBackend,
	failures,
	firstNewFlow,
	lastNewFlow,
	type MovedFlow,
	movedFlows,
	unconfirmedAnswers,
	within,
} from './traffic/tally.ts';

export type Verdict = Pick<
	DemoFigures,
	'requests' | 'baseline' | 'join' | 'leave' | 'death' | 'daemon_kill' | 'flows' | 'promises' | 'kept' | 'mode'
>;

/** Two processes' clocks read and rounded: within this, before and after can't be told. */
const CLOCK_SLACK_MS = 20;

export function judge(story: Story): Verdict {
	const all = [...story.exchanges].sort((a, b) => a.at - b.at);
	const { join, leave, death } = story;
	// A request that was under way when its backend was killed began in the act before, but is the death's doing.
	const isCutOff = (e: Exchange) => e.error !== null && e.at < death.at && e.at + e.ms >= death.at;
	const cutOff = all.filter(isCutOff);
	const whole = all.filter((e) => !isCutOff(e));
	const phase = (from: number, to: number) => within(whole, { from, to });
	const baseline = phase(story.from, join.at);
	const joining = phase(join.at, leave.at);
	const leaving = phase(leave.at, death.at);
	const dying = [...cutOff, ...phase(death.at, story.daemonKilledAt)];
	const orphaned = phase(story.daemonKilledAt, story.daemonBackAt);
	const restarted = phase(story.daemonBackAt, Number.POSITIVE_INFINITY);
	const deathFailures = failures(dying);
	const moved = movedFlows(story.exchanges, story.records);
	const unconfirmed = unconfirmedAnswers(all, story.records);
	const verdict: Omit<Verdict, 'promises' | 'kept'> = {
		mode: story.afterRestart.mode,
		requests: { total: all.length, failed: failures(all).length, by_kind: countBy(all, (e) => e.kind) },
		baseline: { by_backend: Object.fromEntries(answersByBackend(baseline)), failed: failures(baseline).length },
		join: changeFigures(join, joining, firstNewFlow(all, join.backend, join.at)),
		leave: changeFigures(leave, leaving, lastNewFlow(all, leave.backend)),
		death: {
			backend: death.backend,
			kill_to_swap_ms: Math.round(death.swapAt - death.at),
			failed_before_swap: deathFailures.filter((e) => e.at <= death.swapAt).length,
			failed_after_swap: deathFailures.filter((e) => e.at > death.swapAt).length,
			slots: slotFigures(death),
		},
		daemon_kill: {
			down_ms: Math.round(story.daemonBackAt - story.daemonKilledAt),
			requests_while_down: orphaned.length,
			failed: failures(orphaned).length + failures(restarted).length,
			adopted: story.afterRestart.adopted,
			ring_swaps: story.afterRestart.ring_swaps,
		},
		flows: { seen: new Set(all.map((e) => e.flow)).size, moved: moved.length, unconfirmed: unconfirmed.length },
	};
	const promises = promisesOf(verdict, story, { moved, unconfirmed, baseline, joining, leaving, dying, orphaned, restarted });
	return { ...verdict, promises, kept: promises.every((p) => p.kept) };
}

interface Evidence {
	readonly moved: readonly MovedFlow[];
	readonly unconfirmed: readonly Exchange[];
	readonly baseline: readonly Exchange[];
	readonly joining: readonly Exchange[];
	readonly leaving: readonly Exchange[];
	readonly dying: readonly Exchange[];
	readonly orphaned: readonly Exchange[];
	readonly restarted: readonly Exchange[];
}

function promisesOf(v: Omit<Verdict, 'promises' | 'kept'>, story: Story, e: Evidence): PromiseFigure[] {
	const { join, leave, death } = story;
	const joined = answersByBackend(e.joining).get(join.backend) ?? 0;
	const late = e.leaving.filter((x) => x.kind === 'new' && x.backend === leave.backend && x.at > leave.swapAt + CLOCK_SLACK_MS);
	const { adopted, ring_swaps: swaps } = story.afterRestart;
	return [
		noFailures('baseline-no-failures', 'no request fails before anything changes', e.baseline),
		noFailures('join-no-failures', `no request fails while ${join.backend} joins`, e.joining),
		promise('join-takes-traffic', `${join.backend} gets its share`, `${joined} requests`, joined > 0),
		noFailures('leave-no-failures', `no request fails when ${leave.backend} is deregistered while it serves`, e.leaving),
		promise('leave-takes-no-new-flows', `${leave.backend} gets no new flow after the swap`, `${late.length} new flows`, late.length === 0),
		promise(
			'death-failures-end-with-swap',
			`requests fail only between the death of ${death.backend} and the swap`,
			`${v.death.failed_before_swap} in ${v.death.kill_to_swap_ms} ms, ${v.death.failed_after_swap} after${firstError(e.dying, death.swapAt)}`,
			v.death.failed_after_swap === 0,
		),
		noFailures('daemon-kill-no-failures', 'no request fails while the daemon is dead, nor after', [...e.orphaned, ...e.restarted]),
		promise(
			'restart-adopts',
			'the next daemon adopts what forwards and writes no ring',
			`${adopted ? 'adopted' : 'not adopted'}, ${swaps} rings written`,
			adopted && swaps === 0,
		),
		promise(
			'no-flow-moved',
			'no flow leaves a living backend, by 5-tuple at both ends',
			`${e.moved.length} of ${v.flows.seen} flows${examples(e.moved.map((m) => `${m.flow} ${m.from} -> ${m.to ?? 'nobody'}`))}`,
			e.moved.length === 0,
		),
		promise(
			'records-agree',
			'every answer that the client has, its backend has too',
			`${e.unconfirmed.length} unconfirmed${examples(e.unconfirmed.map((x) => x.flow))}`,
			e.unconfirmed.length === 0,
		),
	];
}

function noFailures(id: PromiseId, text: string, exchanges: readonly Exchange[]): PromiseFigure {
	const failed = failures(exchanges);
	const found = `${failed.length} of ${exchanges.length} failed${examples(failed.map((e) => `${e.flow}: ${e.error}`))}`;
	// Nothing asked, nothing proven.
	return promise(id, text, found, failed.length === 0 && exchanges.length > 0);
}

function promise(id: PromiseId, text: string, found: string, kept: boolean): PromiseFigure {
	return { id, promise: text, found, kept };
}

function firstError(exchanges: readonly Exchange[], after: number): string {
	return examples(failures(exchanges.filter((e) => e.at > after)).map((e) => `${e.flow} ${Math.round(e.at - after)} ms later: ${e.error}`));
}

function examples(texts: readonly string[]): string {
	const shown = texts.slice(0, 3).join('; ');
	return texts.length === 0 ? '' : ` (${shown}${texts.length > 3 ? '; ...' : ''})`;
}

function changeFigures(change: ChangeStory, exchanges: readonly Exchange[], flow: Exchange | undefined): ChangeFigures {
	return {
		backend: change.backend,
		write_to_swap_ms: Math.round(change.swapAt - change.at),
		write_to_traffic_ms: flow === undefined ? null : Math.round(flow.at - change.at),
		slots: slotFigures(change),
		requests: exchanges.length,
		failed: failures(exchanges).length,
	};
}

function slotFigures({ slots, expectedBeyond, ofSlots }: ChangeStory): SlotFigures | null {
	if (slots === null) return null;
	return {
		...slots,
		beyond: slots.moved - slots.unavoidable,
		maglev_expects_beyond: Math.round(expectedBeyond),
		of: ofSlots,
	};
}

function countBy<T>(items: readonly T[], keyOf: (item: T) => string): Record<string, number> {
	const counts: Record<string, number> = {};
	for (const item of items) counts[keyOf(item)] = (counts[keyOf(item)] ?? 0) + 1;
	return counts;
}
