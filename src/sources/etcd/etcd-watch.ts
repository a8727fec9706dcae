// SPDX-License-Identifier: Apache-2.0
// Follows one service: lists it at a revision, watches from the next one, and after any failure starts over with a
// new list. Nothing is ever resumed. A cluster that is suddenly another one, or older than before, is believed as to
// what it has, not as to what it lacks.
import type { Timer } from '../../env.ts';
import type { Logger } from '../../log.ts';
import type { Publisher } from '../publisher.ts';
import type { Watch } from '../source.ts';
import type { WatchHealth } from '../watch-health.ts';
import { bounded, jittered, type LoopOptions, startLoop } from '../watch-loop.ts';
import { departures } from './departures.ts';
import { type EtcdClient, type EtcdList, etcdError } from './etcd-client.ts';
import type { Members, MembersOptions } from './members.ts';
import type { ServiceView } from './service-view.ts';
import type { WatchBatch, WatchFeed } from './watch-feed.ts';

export interface EtcdWatchOptions extends Pick<MembersOptions, 'env' | 'tuning'>, Pick<LoopOptions, 'outages'> {
	readonly source: string;
	readonly service: string;
	readonly logger: Logger;
	readonly members: Members;
	readonly view: ServiceView;
	readonly health: WatchHealth;
	readonly publisher: Publisher;
	readonly onClosed: () => void;
}

/** The history that the view belongs to. */
type Identity = Pick<EtcdList, 'revision' | 'clusterId'>;

export function watchEtcd(opts: EtcdWatchOptions): Watch {
	const { service, env, outages, health, publisher, tuning, onClosed } = opts;
	const follower = new EtcdFollower(opts);
	const loop = startLoop({
		service,
		env,
		outages,
		health,
		backoff: tuning.backoff,
		attempt: (signal, settled) => follower.attempt(signal, settled),
		onClosed,
	});
	return {
		close() {
			publisher.close();
			return loop.close();
		},
	};
}

class EtcdFollower {
	readonly #opts: EtcdWatchOptions;
	#known: Identity | undefined;
	/** Went when the history changed, and have not come back. */
	#lost = new Set<string>();

	constructor(opts: EtcdWatchOptions) {
		this.#opts = opts;
	}

	/** Lists, then watches until the signal aborts, a new list is due (returns), or something fails (throws). */
	async attempt(signal: AbortSignal, settled: () => void): Promise<void> {
		const { members, view, env, tuning } = this.#opts;
		const { endpoint } = members;
		const client = await members.client();
		const onAbort = () => void client.close();
		signal.addEventListener('abort', onAbort, { once: true });
		let stopTimers: (() => void) | undefined;
		try {
			signal.throwIfAborted();
			await client.logIn();
			const list = await client.list(view.prefix);
			const feed = client.watch(view.prefix, list.revision + 1n);
			await this.#takeList(list, client);
			await bounded(env, feed.connected, tuning.deadlineMs, 'opening the watch', signal);
			settled();
			stopTimers = this.#startTimers(client, feed);
			for (let batch = await feed.take(); batch !== undefined; batch = await feed.take()) await this.#takeBatch(batch, client);
		} catch (e) {
			members.moveOn();
			throw etcdError(endpoint, e);
		} finally {
			stopTimers?.();
			signal.removeEventListener('abort', onAbort);
			await client.close();
		}
	}

	/** Ends the feed when a complete list is due, or when the member turns out to be dead or another one. */
	#startTimers(client: EtcdClient, feed: WatchFeed): () => void {
		const { env, tuning, health, view } = this.#opts;
		const resync = env.setTimer(jittered(env, tuning.resyncMs), () => feed.end());
		let probe: Timer;
		let isStopped = false;
		const ask = async () => {
			try {
				const head = await client.head(view.prefix);
				const strange = this.#difference(head);
				if (strange !== undefined) throw new Error(strange);
				health.good();
				if (!isStopped) schedule();
			} catch (e) {
				feed.end(e);
			}
		};
		const schedule = () => {
			probe = env.setTimer(jittered(env, tuning.probeMs), () => void ask());
		};
		schedule();
		return () => {
			isStopped = true;
			resync.cancel();
			probe.cancel();
		};
	}

	async #takeList(list: EtcdList, client: EtcdClient): Promise<void> {
		const { view, publisher, health, env, logger, source, service } = this.#opts;
		const observedAt = env.now();
		const strange = this.#difference(list);
		const isFirst = this.#known === undefined;
		this.#known = { revision: list.revision, clusterId: list.clusterId };
		view.replace(list.entries);
		health.good();
		const { instances } = view;
		if (strange !== undefined) {
			for (const { id } of publisher.vanished(instances).gone) this.#lost.add(id);
			logger.warn({ source, service, lost: this.#lost.size }, strange);
			publisher.forgetDoubts();
			if (this.#lost.size > 0) health.doubt(strange);
		} else {
			// It has been the same for a whole round: this is the registry now.
			this.#lost.clear();
			health.trust();
		}
		const isListProof = !isFirst && strange === undefined && view.size > 0;
		await this.#publish(String(list.revision), observedAt, new Set(), isListProof, client);
		// Nothing that the new history says can explain what was lost with the old one.
		if (strange !== undefined) publisher.forgetDoubts();
	}

	async #takeBatch(batch: WatchBatch, client: EtcdClient): Promise<void> {
		const { view, health } = this.#opts;
		if (this.#known !== undefined && batch.revision > this.#known.revision) this.#known = { ...this.#known, revision: batch.revision };
		health.good();
		if (batch.events.length === 0) return;
		const deleted = view.apply(batch.events);
		await this.#publish(String(batch.revision), batch.observedAt, deleted, false, client);
		for (const id of this.#lost) if (view.has(id)) this.#lost.delete(id);
		if (this.#lost.size === 0) health.trust();
	}

	async #publish(revision: string, observedAt: number, deleted: ReadonlySet<string>, isListProof: boolean, client: EtcdClient) {
		const { view, publisher } = this.#opts;
		const { instances, rejected } = view;
		const vanished = publisher.vanished(instances);
		const kinds = await departures(vanished, {
			deleted,
			isListProof,
			isListed: (id) => view.has(id),
			leaseOf: (id) => view.leaseOf(id),
			hasLeaseEnded: (lease) => client.hasLeaseEnded(lease),
		});
		publisher.publish({ revision, observedAt, instances, rejected }, kinds);
		view.forget(new Set([...vanished.gone, ...vanished.doubted].map((i) => i.id)));
	}

	/** What is wrong with an answer in the light of earlier ones. */
	#difference(now: Identity): string | undefined {
		const was = this.#known;
		if (was === undefined) return undefined;
		if (now.clusterId !== was.clusterId) return `etcd is another cluster now (id ${now.clusterId}, was ${was.clusterId})`;
		if (now.revision < was.revision) return `etcd went back in time (revision ${now.revision}, was ${was.revision}): wiped or restored?`;
		return undefined;
	}
}
