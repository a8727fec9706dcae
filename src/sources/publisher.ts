// SPDX-License-Identifier: Apache-2.0
// The last step of every watch: compares content, words the absences, calls the listener. Invariant: a listener is
// called only with news, never after close(), and nothing it does (throw, reject) reaches the watch.
import type { Env } from '../env.ts';
import type { Logger } from '../log.ts';
import { type Absence, type AbsenceKind, type Instance, type RejectedInstance, type Snapshot, sameContent } from '../model/snapshot.ts';
import type { SnapshotListener } from './source.ts';

/** What a source found, before it is compared with what was known. */
export interface Answer {
	/** Of the registry, for people. */
	readonly revision: string;
	/** Env.now() */
	readonly observedAt: number;
	readonly instances: readonly Instance[];
	readonly rejected: readonly RejectedInstance[];
}

export interface PublisherOptions {
	readonly source: string;
	readonly service: string;
	readonly env: Env;
	readonly logger: Logger;
	readonly listener: SnapshotListener;
}

/** Instances that are not listed any more. */
export interface Vanished {
	/** Since the last snapshot. */
	readonly gone: readonly Instance[];
	/** Before that, and nothing has explained it yet. */
	readonly doubted: readonly Instance[];
}

/** Proof came, or it will not come any more. */
const FINAL: ReadonlySet<AbsenceKind> = new Set<AbsenceKind>(['deregistered', 'lease-expired', 'node-gone']);
/** How long an unexplained absence may still be explained; bounds what is remembered. */
const DOUBT_MS = 3_600_000;
const MAX_DOUBTS = 10_000;

interface Doubt {
	readonly instance: Instance;
	readonly since: number;
}

export class Publisher {
	readonly #opts: PublisherOptions;
	#last: Snapshot | undefined;
	/** Instances that went without proof, by id; a later answer may still prove how. */
	readonly #doubts = new Map<string, Doubt>();
	#isClosed = false;

	constructor(opts: PublisherOptions) {
		this.#opts = opts;
	}

	get last(): Snapshot | undefined {
		return this.#last;
	}

	/** Instances that are not in `next`. */
	vanished(next: readonly Instance[]): Vanished {
		const present = new Set(next.map((i) => i.id));
		return {
			gone: (this.#last?.instances ?? []).filter((i) => !present.has(i.id)),
			doubted: [...this.#doubts.values()].map((d) => d.instance).filter((i) => !present.has(i.id)),
		};
	}

	/** Nothing that is unexplained now can be explained by later answers: they come from another history. */
	forgetDoubts(): void {
		this.#doubts.clear();
	}

	/** Emits a snapshot if it differs from the last one, or explains an absence. Absences without a kind are unproven. */
	publish(answer: Answer, kinds: ReadonlyMap<string, AbsenceKind> = new Map()): void {
		if (this.#isClosed) return;
		const instances = [...answer.instances].sort((a, b) => compareText(a.id, b.id));
		const rejected = [...answer.rejected].sort((a, b) => compareText(a.instance, b.instance) || compareText(a.reason, b.reason));
		const absences = this.#absences(instances, kinds);
		const { source, service } = this.#opts;
		const { revision, observedAt } = answer;
		const snapshot: Snapshot = { source, service, revision, observedAt, instances, rejected, absences };
		const isNews = this.#last === undefined || absences.length > 0 || !sameContent(this.#last, snapshot);
		if (!isNews) return;
		this.#last = snapshot;
		this.#deliver(snapshot);
	}

	close(): void {
		this.#isClosed = true;
	}

	#absences(next: readonly Instance[], kinds: ReadonlyMap<string, AbsenceKind>): Absence[] {
		const { env } = this.#opts;
		const unproven: AbsenceKind = next.length === 0 ? 'blank' : 'missing';
		const present = new Set(next.map((i) => i.id));
		for (const [id, doubt] of this.#doubts) if (present.has(id) || env.now() - doubt.since > DOUBT_MS) this.#doubts.delete(id);
		const { gone, doubted } = this.vanished(next);
		const absences: Absence[] = [];
		for (const instance of [...gone, ...doubted]) {
			const kind = kinds.get(instance.id) ?? unproven;
			const isKnown = this.#doubts.has(instance.id);
			if (FINAL.has(kind)) this.#doubts.delete(instance.id);
			else if (!isKnown && this.#doubts.size < MAX_DOUBTS) this.#doubts.set(instance.id, { instance, since: env.now() });
			if (FINAL.has(kind) || !isKnown) absences.push({ instance: instance.id, kind });
		}
		return absences.sort((a, b) => compareText(a.instance, b.instance));
	}

	#deliver(snapshot: Snapshot): void {
		const { listener, logger, source, service } = this.#opts;
		const report = (err: unknown) => logger.error({ source, service, err }, 'a listener of this source failed');
		try {
			const returned: unknown = listener(snapshot);
			if (returned instanceof Promise) returned.catch(report);
		} catch (e) {
			report(e);
		}
	}
}

/** Order by UTF-16 code units: the same on every host, whatever its locale. */
function compareText(a: string, b: string): number {
	return a < b ? -1 : a > b ? 1 : 0;
}
