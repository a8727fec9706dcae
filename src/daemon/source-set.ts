// SPDX-License-Identifier: Apache-2.0
// The sources of a configuration and the watches of its pools. A new configuration keeps every source and watch that
// it does not change: their connections, revisions and what they know stay.
import type { Config, SourceConfig } from '../config/schema.ts';
import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { Snapshot } from '../model/snapshot.ts';
import type { Source, SourceState, SourceStatus, Watch } from '../sources/source.ts';
import { queryOf } from './settings.ts';

export interface SourceSetOptions {
	readonly logger: Logger;
	readonly create: (name: string, config: SourceConfig) => Source;
	/** Called with every snapshot of a pool, never after the pool's watch was replaced or closed. */
	readonly offer: (pool: string, snapshot: Snapshot) => void;
}

interface OpenSource {
	readonly source: Source;
	/** The configuration as text: another text is another source. */
	readonly text: string;
}

interface OpenWatch {
	/** undefined only while the source's watch() runs, which may report at once. */
	watch: Watch | undefined;
	readonly source: Source;
	readonly query: string;
}

export class SourceSet {
	readonly #opts: SourceSetOptions;
	readonly #sources = new Map<string, OpenSource>();
	readonly #watches = new Map<string, OpenWatch>();

	constructor(opts: SourceSetOptions) {
		this.#opts = opts;
	}

	/**
	 * Makes what a configuration needs and returns what puts it into effect: opens what is new, closes what is gone.
	 * @throws XdpilotError when a source can't be made; nothing has changed then
	 */
	prepare(config: Config): () => void {
		const wanted = new Map([...config.sources].map(([name, source]) => [name, this.#openedAs(name, source)] as const));
		return () => this.#commit(config, wanted);
	}

	/** Of a source by name; `never` for one that there isn't. */
	state(name: string): SourceState {
		return this.#sources.get(name)?.source.status().state ?? 'never';
	}

	statuses(): SourceStatus[] {
		return [...this.#sources.values()].map(({ source }) => source.status());
	}

	/** No snapshot is offered from now on; resolves when all sockets are closed. */
	async close(): Promise<void> {
		for (const name of [...this.#watches.keys()]) this.#unwatch(name);
		await Promise.allSettled([...this.#sources.values()].map(({ source }) => source.close()));
	}

	#commit(config: Config, wanted: ReadonlyMap<string, OpenSource>): void {
		const gone = [...this.#sources].filter(([name, open]) => wanted.get(name)?.source !== open.source);
		for (const [name, open] of wanted) this.#sources.set(name, open);
		for (const [name, pool] of config.pools) {
			const source = wanted.get(pool.from.source)?.source;
			if (source !== undefined) this.#watch(name, source, pool);
		}
		for (const name of [...this.#watches.keys()]) if (!config.pools.has(name)) this.#unwatch(name);
		for (const [name, { source }] of gone) {
			if (!wanted.has(name)) this.#sources.delete(name);
			this.#closing(source.close(), `source ${name}`);
		}
	}

	#openedAs(name: string, config: SourceConfig): OpenSource {
		const text = JSON.stringify(config);
		const present = this.#sources.get(name);
		return present?.text === text ? present : { source: this.#opts.create(name, config), text };
	}

	#watch(name: string, source: Source, pool: Parameters<typeof queryOf>[0]): void {
		const query = queryOf(pool);
		const text = JSON.stringify(query);
		const present = this.#watches.get(name);
		if (present?.source === source && present.query === text) return;
		this.#unwatch(name);
		const open: OpenWatch = { watch: undefined, source, query: text };
		this.#watches.set(name, open);
		open.watch = source.watch(query, (snapshot) => {
			if (this.#watches.get(name) === open) this.#opts.offer(name, snapshot);
		});
	}

	#unwatch(name: string): void {
		const open = this.#watches.get(name);
		if (open?.watch === undefined) return;
		this.#watches.delete(name);
		this.#closing(open.watch.close(), `the watch of pool ${name}`);
	}

	#closing(closed: Promise<void>, what: string): void {
		closed.catch((e: unknown) => this.#opts.logger.warn({ err: e }, `${what} did not close: ${messageOf(e)}`));
	}
}
