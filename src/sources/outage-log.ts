// SPDX-License-Identifier: Apache-2.0
// What the watches of one source say in the log when it fails: one line for all that fail alike, not one for each of
// hundreds of services and thousands of attempts, and one when all are well again.
import type { Logger } from '../log.ts';

/** Any object that stands for one watch. */
interface WatchKey {
	readonly service: string;
}

export class OutageLog {
	readonly #source: string;
	readonly #logger: Logger;
	/** Why each failing watch fails, without what differs from attempt to attempt. */
	readonly #failing = new Map<WatchKey, string>();

	constructor(source: string, logger: Logger) {
		this.#source = source;
		this.#logger = logger;
	}

	failed(watch: WatchKey, reason: string): void {
		const kind = reason.replace(/\d+/g, '0');
		const isKnown = [...this.#failing.values()].includes(kind);
		this.#failing.set(watch, kind);
		if (!isKnown) this.#logger.warn({ source: this.#source, service: watch.service }, `the source fails: ${reason}`);
	}

	recovered(watch: WatchKey): void {
		if (this.#failing.delete(watch) && this.#failing.size === 0) this.#logger.info({ source: this.#source }, 'the source answers again');
	}

	/** The watch is no more; how it was does not matter. */
	closed(watch: WatchKey): void {
		this.#failing.delete(watch);
	}
}
