// SPDX-License-Identifier: Apache-2.0
// The Consul source. Each watch holds one connection with a blocking query, up to a number that stays below Consul's
// limit of 200 connections from one address; services beyond that are polled through a few shared ones.
import PQueue from 'p-queue';
import type { ConsulAddress, TlsConfig } from '../../config/source-schema.ts';
import type { Env } from '../../env.ts';
import { messageOf, XdpilotError } from '../../errors.ts';
import type { Logger } from '../../log.ts';
import type { Snapshot } from '../../model/snapshot.ts';
import { readSecret, readTls } from '../credentials.ts';
import { OutageLog } from '../outage-log.ts';
import { Publisher } from '../publisher.ts';
import type { ServiceQuery, SnapshotListener, Source, SourceStatus, Watch } from '../source.ts';
import { sourceStatus, WatchHealth } from '../watch-health.ts';
import { BACKOFF, type BackoffLimits } from '../watch-loop.ts';
import { readAnswer } from './answer.ts';
import { ConsulClient, consulAgent, describeAddress } from './consul-client.ts';
import { type ConsulSession, type ConsulTuning, watchConsul } from './consul-watch.ts';

export interface ConsulSourceOptions {
	readonly name: string;
	readonly address: ConsulAddress;
	readonly tokenFile?: string | undefined;
	readonly tls?: TlsConfig | undefined;
	/** Default: the agent's own. */
	readonly datacenter?: string | undefined;
	/** Lets any server answer, not only the leader. */
	readonly isStale?: boolean;
	readonly env: Env;
	readonly logger: Logger;
	readonly tuning?: Partial<ConsulTuning & { readonly backoff: BackoffLimits; readonly maxBlocking: number }>;
}

const TUNING: ConsulTuning & { readonly backoff: BackoffLimits; readonly maxBlocking: number } = {
	backoff: BACKOFF,
	waitMs: 30_000,
	pace: { minMs: 75, idleMs: 300 },
	resyncMs: 300_000,
	pollMs: 2000,
	maxLastContactMs: 10_000,
	// Consul's http_max_conns_per_client is 200 by default, and others on this host use it too.
	maxBlocking: 150,
};
/** Connections for all services that are polled. */
const POLLERS = 8;

export class ConsulSource implements Source {
	readonly kind = 'consul';
	readonly name: string;
	readonly #opts: ConsulSourceOptions;
	readonly #tuning: typeof TUNING;
	readonly #watches = new Map<Watch, WatchHealth>();
	/** Watches that may block; at most `maxBlocking`. */
	readonly #blocking = new Set<object>();
	readonly #polls = new PQueue({ concurrency: POLLERS });
	/** Health of read(), told while there is no watch. */
	readonly #reads: WatchHealth;
	readonly #outages: OutageLog;
	#isClosed = false;

	constructor(opts: ConsulSourceOptions) {
		this.#opts = opts;
		this.name = opts.name;
		this.#tuning = { ...TUNING, ...opts.tuning };
		this.#reads = new WatchHealth(opts.env);
		this.#outages = new OutageLog(opts.name, opts.logger);
	}

	watch(query: ServiceQuery, listener: SnapshotListener): Watch {
		if (this.#isClosed) throw new XdpilotError('E_INTERNAL', `the source ${this.name} is closed`);
		const { env, logger, isStale = false } = this.#opts;
		const health = new WatchHealth(env);
		const key = {};
		const watch: Watch = watchConsul({
			source: this.name,
			query,
			env,
			logger,
			tuning: this.#tuning,
			outages: this.#outages,
			backoff: this.#tuning.backoff,
			isStale,
			open: () => this.#open(query, key),
			explain: (e) => this.#explain(e),
			health,
			publisher: new Publisher({ source: this.name, service: query.service, env, logger, listener }),
			onClosed: () => {
				this.#watches.delete(watch);
				this.#blocking.delete(key);
			},
		});
		this.#watches.set(watch, health);
		return watch;
	}

	async read(query: ServiceQuery, signal: AbortSignal): Promise<Snapshot> {
		const { env, isStale = false } = this.#opts;
		const { service, tags } = query;
		let session: ConsulSession | undefined;
		try {
			session = await this.#open(query, undefined);
			const answer = await session.client.health({ service, tags, index: undefined, waitMs: 0, isStale }, signal);
			const read = readAnswer(answer.body, tags);
			if (read === undefined) throw new XdpilotError('E_SOURCE', 'the answer is not a list: is this Consul?');
			this.#reads.good();
			const instances = [...read.instances].sort((a, b) => (a.id < b.id ? -1 : 1));
			const { rejected } = read;
			return { source: this.name, service, revision: String(answer.index), observedAt: env.now(), instances, rejected, absences: [] };
		} catch (e) {
			const error = this.#explain(signal.aborted ? new Error(`the time to read ${service} was over`, { cause: e }) : e);
			this.#reads.failed(error.message);
			throw error;
		} finally {
			session?.close();
		}
	}

	status(): SourceStatus {
		const healths = [...this.#watches.values()];
		return sourceStatus(this.name, this.kind, healths.length > 0 ? healths : [this.#reads]);
	}

	async close(): Promise<void> {
		this.#isClosed = true;
		await Promise.all([...this.#watches.keys()].map((w) => w.close()));
	}

	/** A session for one attempt, with secrets and certificates as they are now; `key` is the watch's, if it is one. */
	async #open(query: ServiceQuery, key: object | undefined): Promise<ConsulSession> {
		const { address, tokenFile, tls, env } = this.#opts;
		const token = tokenFile === undefined ? undefined : await readSecret(tokenFile);
		const files = await readTls(tls);
		const datacenter = query.datacenter ?? this.#opts.datacenter;
		const agent = consulAgent(address, 1);
		return {
			client: new ConsulClient({ address, tls: files, serverName: tls?.server_name, token, datacenter, env, agent }),
			mayBlock: () => key !== undefined && this.#mayBlock(key),
			isConnected: () => [...Object.values(agent.sockets), ...Object.values(agent.freeSockets)].flat().some((s) => s?.destroyed === false),
			inTurn: async <T>(step: () => Promise<T>, signal: AbortSignal) => {
				const result = await this.#polls.add(step, { signal });
				// An idle connection counts at the other end like a busy one.
				for (const socket of Object.values(agent.freeSockets).flat()) socket?.destroy();
				return result;
			},
			close: () => agent.destroy(),
		};
	}

	#mayBlock(key: object): boolean {
		if (this.#blocking.has(key)) return true;
		if (this.#blocking.size >= this.#tuning.maxBlocking || this.#isClosed) return false;
		this.#blocking.add(key);
		return true;
	}

	#explain(e: unknown): XdpilotError {
		return new XdpilotError('E_SOURCE', `consul at ${describeAddress(this.#opts.address)}: ${messageOf(e)}`, { cause: e, retryable: true });
	}
}
