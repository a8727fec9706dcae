// SPDX-License-Identifier: Apache-2.0
// A source that answers when a test says so, with what the test says.
import type { Env } from '../../src/env.ts';
import { XdpilotError } from '../../src/errors.ts';
import type { Snapshot } from '../../src/model/snapshot.ts';
import type { ServiceQuery, SnapshotListener, Source, SourceKind, SourceState, SourceStatus, Watch } from '../../src/sources/source.ts';
import { snapshot } from './snapshots.ts';

export class MemorySource implements Source {
	readonly kind: SourceKind = 'file';
	readonly name: string;
	readonly #env: Env;
	readonly #services = new Map<string, Snapshot>();
	readonly #watches = new Set<{ service: string; listener: SnapshotListener }>();
	state: SourceState = 'never';
	isClosed = false;

	constructor(name: string, env: Env) {
		this.name = name;
		this.#env = env;
	}

	/** Services that are watched, sorted. */
	get watched(): string[] {
		return [...this.#watches].map((w) => w.service).sort();
	}

	/** The service is like this from now on. */
	set(service: string, ...args: Parameters<typeof snapshot>): void {
		this.state = 'up';
		const [instances, over = {}] = args;
		const next: Snapshot = { ...snapshot(instances, { ...over, observedAt: this.#env.now() }), source: this.name, service };
		this.#services.set(service, next);
		for (const w of this.#watches) if (w.service === service) w.listener(next);
	}

	watch({ service }: ServiceQuery, listener: SnapshotListener): Watch {
		const entry = { service, listener };
		this.#watches.add(entry);
		const known = this.#services.get(service);
		if (known !== undefined) listener({ ...known, absences: [] });
		return {
			close: async () => {
				this.#watches.delete(entry);
			},
		};
	}

	async read({ service }: ServiceQuery): Promise<Snapshot> {
		const known = this.#services.get(service);
		if (known === undefined) throw new XdpilotError('E_SOURCE', `${this.name} does not answer`);
		return known;
	}

	status(): SourceStatus {
		return { name: this.name, kind: this.kind, state: this.state, age_seconds: this.state === 'never' ? null : 0, error: null };
	}

	async close(): Promise<void> {
		this.isClosed = true;
		this.#watches.clear();
	}
}
