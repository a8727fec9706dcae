// SPDX-License-Identifier: Apache-2.0
// The file source. One follower serves all watches. An entry that a readable file does not list any more was removed
// by its owner; a service that is not even named, or a file that can't be read, proves nothing.
import type { Env } from '../../env.ts';
import { XdpilotError } from '../../errors.ts';
import type { Logger } from '../../log.ts';
import type { AbsenceKind, Snapshot } from '../../model/snapshot.ts';
import { type Answer, Publisher } from '../publisher.ts';
import type { ServiceQuery, SnapshotListener, Source, SourceStatus, Watch } from '../source.ts';
import { sourceStatus, WatchHealth } from '../watch-health.ts';
import { type FileContent, FileFollower, readContent } from './follow-file.ts';
import { type Declaration, parseServices } from './services.ts';

export interface FileSourceOptions {
	readonly name: string;
	/** Absolute. */
	readonly path: string;
	readonly env: Env;
	readonly logger: Logger;
	/** Milliseconds between looks at a file whose folder reports nothing. */
	readonly pollMs?: number;
	/** Milliseconds that a file written in place must stand still. */
	readonly settleMs?: number;
}

/** The last content that could be used. */
interface Current {
	readonly services: ReadonlyMap<string, Declaration>;
	readonly revision: string;
	readonly observedAt: number;
}

interface FileWatch {
	readonly service: string;
	readonly health: WatchHealth;
	readonly publisher: Publisher;
}

export class FileSource implements Source {
	readonly kind = 'file';
	readonly name: string;
	readonly #opts: FileSourceOptions;
	readonly #watches = new Set<FileWatch>();
	/** Health of read(), told while there is no watch. */
	readonly #reads: WatchHealth;
	#follower: FileFollower | undefined;
	#current: Current | undefined;
	/** What is wrong with the file now; a failure to read it, or content that can't be used. */
	#trouble: { readonly isReadable: boolean; readonly error: XdpilotError } | undefined;
	#isClosed = false;

	constructor(opts: FileSourceOptions) {
		this.#opts = opts;
		this.name = opts.name;
		this.#reads = new WatchHealth(opts.env);
	}

	watch(query: ServiceQuery, listener: SnapshotListener): Watch {
		if (this.#isClosed) throw new XdpilotError('E_INTERNAL', `the source ${this.name} is closed`);
		const { env, logger } = this.#opts;
		const publisher = new Publisher({ source: this.name, service: query.service, env, logger, listener });
		const entry: FileWatch = { service: query.service, health: new WatchHealth(env), publisher };
		this.#watches.add(entry);
		if (this.#follower === undefined) this.#follow();
		// Not from inside this call: the caller does not hold the watch yet.
		else queueMicrotask(() => this.#tell(entry));
		return {
			close: async () => {
				publisher.close();
				this.#watches.delete(entry);
				if (this.#watches.size === 0) await this.#unfollow();
			},
		};
	}

	async read(query: ServiceQuery, signal: AbortSignal): Promise<Snapshot> {
		const { service } = query;
		try {
			const current = this.#use(await readContent(this.#opts.path));
			signal.throwIfAborted();
			const declared = current.services.get(service);
			if (declared !== undefined && 'error' in declared) throw new XdpilotError('E_SOURCE', declared.error);
			this.#reads.good();
			return { source: this.name, service, absences: [], ...answerOf(current, service, declared) };
		} catch (e) {
			const error = e instanceof XdpilotError ? e : new XdpilotError('E_SOURCE', `reading ${service} was given up`, { cause: e });
			this.#reads.failed(error.message);
			throw error;
		}
	}

	status(): SourceStatus {
		const healths = [...this.#watches].map((w) => w.health);
		return sourceStatus(this.name, this.kind, healths.length > 0 ? healths : [this.#reads]);
	}

	async close(): Promise<void> {
		this.#isClosed = true;
		for (const { publisher } of this.#watches) publisher.close();
		this.#watches.clear();
		await this.#unfollow();
	}

	#follow(): void {
		const { path, env, pollMs, settleMs, logger } = this.#opts;
		this.#follower = new FileFollower({
			path,
			env,
			...(pollMs === undefined ? {} : { pollMs }),
			...(settleMs === undefined ? {} : { settleMs }),
			onContent: (content) => this.#take(content),
			onUnchanged: () => this.#tellAll(),
			onError: (error) => {
				if (this.#trouble?.error.message !== error.message) logger.warn({ source: this.name }, error.message);
				this.#trouble = { isReadable: false, error };
				this.#tellAll();
			},
		});
		this.#follower.start();
	}

	async #unfollow(): Promise<void> {
		const follower = this.#follower;
		this.#follower = undefined;
		this.#current = undefined;
		this.#trouble = undefined;
		await follower?.close();
	}

	#take(content: FileContent): void {
		try {
			this.#current = this.#use(content);
			this.#trouble = undefined;
		} catch (e) {
			if (!(e instanceof XdpilotError)) throw e;
			this.#opts.logger.warn({ source: this.name }, e.message);
			this.#trouble = { isReadable: true, error: e };
		}
		this.#tellAll();
	}

	#use(content: FileContent): Current {
		const services = parseServices(content.text);
		return { services, revision: `sha256:${content.digest.slice(0, 16)}`, observedAt: this.#opts.env.now() };
	}

	#tellAll(): void {
		for (const entry of [...this.#watches]) this.#tell(entry);
	}

	#tell(entry: FileWatch): void {
		const { health, publisher, service } = entry;
		const current = this.#current;
		const declared = current?.services.get(service);
		if (this.#trouble?.isReadable === false) health.failed(this.#trouble.error.message);
		else if (this.#trouble !== undefined) health.doubt(this.#trouble.error.message);
		else if (declared !== undefined && 'error' in declared) health.doubt(declared.error);
		else if (current !== undefined) {
			health.good();
			health.trust();
			const answer = answerOf(current, service, declared);
			publisher.publish(answer, declared === undefined ? undefined : departures(publisher, answer));
		}
	}
}

function answerOf(current: Current, service: string, declared: Exclude<Declaration, { error: string }> | undefined): Answer {
	const { revision, observedAt } = current;
	if (declared !== undefined) return { revision, observedAt, ...declared };
	const reason = `the file does not name this service; if it has no backends, write "${service}: []"`;
	return { revision, observedAt, instances: [], rejected: [{ instance: service, reason }] };
}

/** An entry that is not there was removed, unless it may be one of those that could not be read. */
function departures(publisher: Publisher, answer: Answer): Map<string, AbsenceKind> {
	const { gone, doubted } = publisher.vanished(answer.instances);
	const hasNewRejects = answer.rejected.length > (publisher.last?.rejected.length ?? 0);
	const proven = [...(hasNewRejects ? [] : gone), ...(answer.rejected.length > 0 ? [] : doubted)];
	return new Map(proven.map((i) => [i.id, 'deregistered']));
}
