// SPDX-License-Identifier: Apache-2.0
// Follows one service by blocking queries. The index is a hint for the next query and nothing else: content is
// compared, and any error, regression or resync asks again without an index, so that no change can hide behind it.
import { sleep } from '../../env.ts';
import { XdpilotError } from '../../errors.ts';
import type { Logger } from '../../log.ts';
import type { AbsenceKind } from '../../model/snapshot.ts';
import type { Publisher } from '../publisher.ts';
import type { ServiceQuery, Watch } from '../source.ts';
import type { WatchHealth } from '../watch-health.ts';
import { jittered, type LoopOptions, startLoop } from '../watch-loop.ts';
import { type CatalogPlace, readAnswer, type ServiceAnswer } from './answer.ts';
import type { ConsulAnswer, ConsulClient } from './consul-client.ts';
import { departures } from './departures.ts';
import { Pace, type PaceLimits } from './pace.ts';

export interface ConsulTuning {
	/** Milliseconds that one blocking query waits for a change. */
	readonly waitMs: number;
	readonly pace: PaceLimits;
	/** Milliseconds that one session lasts: the next one reads secrets again and begins without an index. */
	readonly resyncMs: number;
	/** Milliseconds between queries of a watch that may not block. */
	readonly pollMs: number;
	/** With stale reads: how long the answering server may not have heard from the leader. */
	readonly maxLastContactMs: number;
}

/** A client for one attempt, and whether it may hold a connection open with blocking queries. */
export interface ConsulSession {
	readonly client: ConsulClient;
	readonly mayBlock: () => boolean;
	/** The connection of the last answer is still there. */
	readonly isConnected: () => boolean;
	/** Runs something for a watch that may not block, when its turn has come. */
	readonly inTurn: <T>(step: () => Promise<T>, signal: AbortSignal) => Promise<T>;
	close(): void;
}

export interface ConsulWatchOptions extends Pick<LoopOptions, 'env' | 'outages' | 'backoff' | 'onClosed'> {
	readonly source: string;
	readonly logger: Logger;
	readonly query: ServiceQuery;
	readonly tuning: ConsulTuning;
	/** Whether any server may answer. */
	readonly isStale: boolean;
	readonly open: () => Promise<ConsulSession>;
	/** Puts the address into an error's message. */
	readonly explain: (e: unknown) => XdpilotError;
	readonly health: WatchHealth;
	readonly publisher: Publisher;
}

export function watchConsul(opts: ConsulWatchOptions): Watch {
	const { publisher, query, ...rest } = opts;
	const follower = new ConsulFollower(opts);
	const loop = startLoop({ ...rest, service: query.service, attempt: (signal, settled) => follower.attempt(signal, settled) });
	return {
		close() {
			publisher.close();
			return loop.close();
		},
	};
}

class ConsulFollower {
	readonly #opts: ConsulWatchOptions;
	/** The highest index of this history. */
	#highest = 0n;
	/** Where the instances are that were listed last, or that are missing without an explanation. */
	#places: ReadonlyMap<string, CatalogPlace> = new Map();
	/** Went when the history changed, and have not come back. */
	#lost = new Set<string>();
	#needsLeader = false;
	/** A session has ended as it should, and the next one has not been answered yet. */
	#isNewRound = false;

	constructor(opts: ConsulWatchOptions) {
		this.#opts = opts;
	}

	/** Queries until the signal aborts, the session has lasted long enough (returns), or something fails (throws). */
	async attempt(signal: AbortSignal, settled: () => void): Promise<void> {
		const { env, tuning, open, explain } = this.#opts;
		let session: ConsulSession | undefined;
		try {
			session = await open();
			const pace = new Pace(env, tuning.pace);
			let index: bigint | undefined;
			let isKeptAlive = false;
			const endsAt = env.now() + jittered(env, tuning.resyncMs);
			while (!signal.aborted && env.now() < endsAt) {
				const mayBlock = session.mayBlock();
				// Whoever answers on a new connection may have another history, and would wait for an index of the old one.
				if (!session.isConnected() && isKeptAlive) index = undefined;
				const startedAt = env.now();
				const { client } = session;
				const step = async () => {
					const answer = await this.#ask(client, mayBlock ? index : undefined, signal);
					return { answer, isNews: await this.#take(answer, client, signal) };
				};
				const { answer, isNews } = await (mayBlock ? step() : session.inTurn(step, signal));
				settled();
				isKeptAlive = answer.isKeptAlive;
				// Lower than before: a restored or restarted server. Ask without an index, or it would wait for the old one.
				index = index !== undefined && answer.index < index ? undefined : answer.index === 0n ? 1n : answer.index;
				const waitMs = mayBlock ? pace.next(startedAt, isNews) : jittered(env, tuning.pollMs);
				if (waitMs > 0) await sleep(env, waitMs, signal);
			}
			this.#isNewRound = true;
		} catch (e) {
			throw explain(e);
		} finally {
			session?.close();
		}
	}

	async #ask(client: ConsulClient, index: bigint | undefined, signal: AbortSignal): Promise<ConsulAnswer> {
		const { query, tuning, isStale } = this.#opts;
		const { service, tags } = query;
		const mayBeStale = isStale && !this.#needsLeader;
		this.#needsLeader = false;
		const answer = await client.health({ service, tags, index, waitMs: tuning.waitMs, isStale: mayBeStale }, signal);
		if (!mayBeStale || answer.lastContactMs <= tuning.maxLastContactMs) return answer;
		this.#needsLeader = true;
		throw new XdpilotError('E_SOURCE', `the answer is stale: the server has not heard from the leader for ${answer.lastContactMs} ms`, {
			retryable: true,
		});
	}

	/** Publishes an answer; whether it was news. */
	async #take(answer: ConsulAnswer, client: ConsulClient, signal: AbortSignal): Promise<boolean> {
		const { publisher, health, env, query, logger, source } = this.#opts;
		const observedAt = env.now();
		const read = readAnswer(answer.body, query.tags);
		if (read === undefined) throw new XdpilotError('E_SOURCE', 'the answer is not a list: is this Consul?', { retryable: true });
		health.good();
		const isSetBack = answer.index < this.#highest;
		if (isSetBack) {
			const strange = `Consul's index went back (${answer.index}, was ${this.#highest}): restarted without its data, or restored?`;
			for (const { id } of publisher.vanished(read.instances).gone) this.#lost.add(id);
			logger.warn({ source, service: query.service, lost: this.#lost.size }, strange);
			publisher.forgetDoubts();
			if (this.#lost.size > 0) health.doubt(strange);
		}
		this.#highest = answer.index;
		const kinds = isSetBack || answer.isFiltered ? undefined : await this.#departures(read, client, signal);
		const before = publisher.last;
		publisher.publish({ revision: String(answer.index), observedAt, instances: read.instances, rejected: read.rejected }, kinds);
		if (isSetBack) publisher.forgetDoubts();
		this.#remember(read);
		for (const { id } of read.instances) this.#lost.delete(id);
		// After a whole round of being the same, this is the registry now.
		const isSettled = this.#isNewRound && !isSetBack;
		this.#isNewRound = false;
		if (this.#lost.size === 0 || isSettled) {
			this.#lost.clear();
			health.trust();
		}
		return publisher.last !== before;
	}

	async #departures(read: ServiceAnswer, client: ConsulClient, signal: AbortSignal): Promise<Map<string, AbsenceKind> | undefined> {
		const { publisher, query, logger, source } = this.#opts;
		const { gone, doubted } = publisher.vanished(read.instances);
		// Listed, but unusable now: not gone.
		const absent = [...gone, ...doubted].filter((i) => !read.places.has(i.id));
		if (absent.length === 0) return undefined;
		try {
			return await departures({
				service: query.service,
				tags: query.tags,
				gone: absent,
				placeOf: (id) => this.#places.get(id),
				areOthersListed: read.instances.length > 0,
				client,
				signal,
			});
		} catch (e) {
			if (signal.aborted) throw e;
			logger.warn({ source, service: query.service, err: e }, 'the catalog can not be asked how instances have gone');
			return undefined;
		}
	}

	#remember(read: ServiceAnswer): void {
		const { doubted } = this.#opts.publisher.vanished(read.instances);
		const kept = doubted.flatMap(({ id }) => {
			const place = this.#places.get(id);
			return place === undefined ? [] : [[id, place] as const];
		});
		this.#places = new Map([...kept, ...read.places]);
	}
}
