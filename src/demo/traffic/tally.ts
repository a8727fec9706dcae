// SPDX-License-Identifier: Apache-2.0
// What the two records say: who answered how much, what failed and when, and whether any flow changed its backend.
// Pure; times are the wall clock's, milliseconds.
import type { Exchange, FlowKey, SeenFlow } from './exchange.ts';

/** What one backend wrote down, and when it died if it did. */
export interface BackendRecord {
	readonly name: string;
	readonly flows: Iterable<SeenFlow>;
	/** null = it lives. */
	readonly diedAt: number | null;
}

export interface Window {
	readonly from: number;
	readonly to: number;
}

/** A flow that two backends saw, although the first was alive when the second did; or that broke while its backend lived. */
export interface MovedFlow {
	readonly flow: FlowKey;
	readonly from: string;
	/** null: the client lost it, and no other backend saw it. */
	readonly to: string | null;
}

export function within(exchanges: readonly Exchange[], { from, to }: Window): Exchange[] {
	return exchanges.filter((e) => e.at >= from && e.at < to);
}

export function failures(exchanges: readonly Exchange[]): Exchange[] {
	return exchanges.filter((e) => e.error !== null);
}

/** Answers by backend. */
export function answersByBackend(exchanges: readonly Exchange[]): Map<string, number> {
	const counts = new Map<string, number>();
	for (const { backend } of exchanges) if (backend !== null) counts.set(backend, (counts.get(backend) ?? 0) + 1);
	return counts;
}

/** When a flow that began after `since` was first answered by `backend`; undefined if none was. */
export function firstNewFlow(exchanges: readonly Exchange[], backend: string, since: number): Exchange | undefined {
	return exchanges.find((e) => e.kind === 'new' && e.backend === backend && e.at >= since);
}

/** The last flow that began on `backend`; undefined if none did. */
export function lastNewFlow(exchanges: readonly Exchange[], backend: string): Exchange | undefined {
	return exchanges.findLast((e) => e.kind === 'new' && e.backend === backend);
}

/** Flows that left a living backend, judged from both records. */
export function movedFlows(exchanges: readonly Exchange[], records: readonly BackendRecord[]): MovedFlow[] {
	return [...seenTwice(records), ...brokenWhileAlive(exchanges, records)];
}

/**
 * Answers that a client got from a backend which has no word of that flow: a sign that one of the records is wrong, and with
 * it every verdict that rests on them. A killed backend takes its last words with it, so its answers are not compared.
 */
export function unconfirmedAnswers(exchanges: readonly Exchange[], records: readonly BackendRecord[]): Exchange[] {
	const seen = new Map(records.map((r) => [r.name, new Set([...r.flows].map((f) => f.flow))]));
	const living = new Set(records.filter((r) => r.diedAt === null).map((r) => r.name));
	return exchanges.filter((e) => e.backend !== null && living.has(e.backend) && seen.get(e.backend)?.has(e.flow) !== true);
}

function seenTwice(records: readonly BackendRecord[]): MovedFlow[] {
	const first = new Map<FlowKey, { record: BackendRecord; firstAt: number }>();
	const moved: MovedFlow[] = [];
	const all = records.flatMap((record) => [...record.flows].map(({ flow, firstAt }) => ({ flow, firstAt, record })));
	for (const { flow, firstAt, record } of all.sort((a, b) => a.firstAt - b.firstAt)) {
		const known = first.get(flow);
		if (known === undefined) first.set(flow, { record, firstAt });
		else if (known.record.diedAt === null || firstAt < known.record.diedAt) moved.push({ flow, from: known.record.name, to: record.name });
	}
	return moved;
}

function brokenWhileAlive(exchanges: readonly Exchange[], records: readonly BackendRecord[]): MovedFlow[] {
	const diedAt = new Map(records.map((r) => [r.name, r.diedAt]));
	const lastAnswer = new Map<FlowKey, string>();
	const broken: MovedFlow[] = [];
	for (const e of exchanges) {
		if (e.backend !== null) lastAnswer.set(e.flow, e.backend);
		const owner = lastAnswer.get(e.flow);
		if (e.error === null || owner === undefined) continue;
		const death = diedAt.get(owner) ?? null;
		if (death === null || e.at + e.ms < death) broken.push({ flow: e.flow, from: owner, to: null });
	}
	return broken;
}
