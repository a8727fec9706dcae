// SPDX-License-Identifier: Apache-2.0
// The etcd source: one independent watch per service, each on a connection of its own, because one refused watcher
// blocks all others of an etcd3 client.
import type { EtcdEndpoint, TlsConfig } from '../../config/source-schema.ts';
import type { Env } from '../../env.ts';
import { messageOf, XdpilotError } from '../../errors.ts';
import type { Logger } from '../../log.ts';
import type { Snapshot } from '../../model/snapshot.ts';
import { OutageLog } from '../outage-log.ts';
import { Publisher } from '../publisher.ts';
import type { ServiceQuery, SnapshotListener, Source, SourceStatus, Watch } from '../source.ts';
import { sourceStatus, WatchHealth } from '../watch-health.ts';
import { BACKOFF } from '../watch-loop.ts';
import { etcdError } from './etcd-client.ts';
import { watchEtcd } from './etcd-watch.ts';
import type { Layout } from './layouts/layout.ts';
import { ETCD_TUNING, type EtcdTuning, Members } from './members.ts';
import { ServiceView } from './service-view.ts';

export interface EtcdSourceOptions {
	readonly name: string;
	readonly endpoints: readonly EtcdEndpoint[];
	/** Key prefix of all services. */
	readonly prefix: string;
	readonly layout: Layout;
	readonly username?: string | undefined;
	readonly passwordFile?: string | undefined;
	readonly tls?: TlsConfig | undefined;
	readonly env: Env;
	readonly logger: Logger;
	readonly tuning?: Partial<EtcdTuning>;
}

export class EtcdSource implements Source {
	readonly kind = 'etcd';
	readonly name: string;
	readonly #opts: EtcdSourceOptions;
	readonly #tuning: EtcdTuning;
	readonly #watches = new Map<Watch, WatchHealth>();
	/** Health of read(), told while there is no watch. */
	readonly #reads: WatchHealth;
	readonly #outages: OutageLog;
	#isClosed = false;

	constructor(opts: EtcdSourceOptions) {
		this.#opts = opts;
		this.name = opts.name;
		this.#tuning = { backoff: BACKOFF, ...ETCD_TUNING, ...opts.tuning };
		this.#reads = new WatchHealth(opts.env);
		this.#outages = new OutageLog(opts.name, opts.logger);
	}

	watch({ service }: ServiceQuery, listener: SnapshotListener): Watch {
		if (this.#isClosed) throw new XdpilotError('E_INTERNAL', `the source ${this.name} is closed`);
		const { env, logger, prefix, layout } = this.#opts;
		const health = new WatchHealth(env);
		const watch: Watch = watchEtcd({
			source: this.name,
			service,
			env,
			logger,
			outages: this.#outages,
			tuning: this.#tuning,
			members: this.#members(service),
			view: new ServiceView(layout, prefix, service),
			health,
			publisher: new Publisher({ source: this.name, service, env, logger, listener }),
			onClosed: () => this.#watches.delete(watch),
		});
		this.#watches.set(watch, health);
		return watch;
	}

	async read({ service }: ServiceQuery, signal: AbortSignal): Promise<Snapshot> {
		const { env, layout, prefix } = this.#opts;
		const members = this.#members(service);
		const view = new ServiceView(layout, prefix, service);
		let failure: XdpilotError | undefined;
		// Each member twice: a connection that fails once is no reason to fail the command.
		for (let left = 2 * this.#opts.endpoints.length; left > 0 && !signal.aborted; left--) {
			try {
				const revision = await this.#list(members, view, signal);
				this.#reads.good();
				const { instances, rejected } = view;
				const sorted = [...instances].sort((a, b) => (a.id < b.id ? -1 : 1));
				return { source: this.name, service, revision, observedAt: env.now(), instances: sorted, rejected, absences: [] };
			} catch (e) {
				failure = e instanceof XdpilotError ? e : new XdpilotError('E_INTERNAL', messageOf(e), { cause: e });
				members.moveOn();
			}
		}
		const late = `the time to read ${service} was over`;
		const error = failure === undefined || signal.aborted ? new XdpilotError('E_SOURCE', late, { cause: failure }) : failure;
		this.#reads.failed(error.message);
		throw error;
	}

	status(): SourceStatus {
		const healths = [...this.#watches.values()];
		return sourceStatus(this.name, this.kind, healths.length > 0 ? healths : [this.#reads]);
	}

	async close(): Promise<void> {
		this.#isClosed = true;
		await Promise.all([...this.#watches.keys()].map((w) => w.close()));
	}

	#members(service: string): Members {
		const { endpoints, tls, username, passwordFile, env } = this.#opts;
		return new Members({ endpoints, tls, username, passwordFile, env, tuning: this.#tuning, purpose: `${this.name}/${service}` });
	}

	/** Fills the view from the member in use; the revision. */
	async #list(members: Members, view: ServiceView, signal: AbortSignal): Promise<string> {
		const { endpoint } = members;
		const client = await members.client();
		const onAbort = () => void client.close();
		signal.addEventListener('abort', onAbort, { once: true });
		try {
			await client.logIn();
			const list = await client.list(view.prefix);
			view.replace(list.entries);
			return String(list.revision);
		} catch (e) {
			throw etcdError(endpoint, e);
		} finally {
			signal.removeEventListener('abort', onAbort);
			await client.close();
		}
	}
}
