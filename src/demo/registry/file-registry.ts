// SPDX-License-Identifier: Apache-2.0
// A file as registry: whoever owns it - here the demo - writes it anew when a backend comes, goes or is found dead.
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { stringify } from 'yaml';
import { type Env, sleep } from '../../env.ts';
import type { BackendProcess } from '../backend-process.ts';
import type { Entry } from './announcement.ts';
import type { Registry, RegistryPlan } from './registry.ts';

/** As long as a health check takes that asks every second. */
const NOTICE_MS = 1000;

export class FileRegistry implements Registry {
	readonly kind = 'file';
	readonly sourceConfig: Readonly<Record<string, unknown>>;
	readonly #env: Env;
	readonly #plan: RegistryPlan;
	readonly #path: string;
	readonly #members = new Map<string, readonly Entry[]>();

	constructor(env: Env, plan: RegistryPlan) {
		this.#env = env;
		this.#plan = plan;
		mkdirSync(plan.folder, { recursive: true });
		this.#path = `${plan.folder}/services.yaml`;
		this.sourceConfig = { kind: 'file', path: this.#path };
		this.#write();
	}

	async join(backend: BackendProcess): Promise<number> {
		this.#members.set(backend.name, this.#plan.entriesOf(backend));
		return this.#write();
	}

	async leave(backend: BackendProcess): Promise<number> {
		this.#members.delete(backend.name);
		return this.#write();
	}

	async died(backend: BackendProcess): Promise<void> {
		await sleep(this.#env, NOTICE_MS);
		await this.leave(backend);
	}

	check(): void {}

	#write(): number {
		const services: Record<string, { address: string; port: number }[]> = {};
		for (const { service, address, port } of [...this.#members.values()].flat()) {
			services[service] = [...(services[service] ?? []), { address, port }];
		}
		// Renamed into place: a reader sees the old file or the new one, never half of one.
		writeFileSync(`${this.#path}.new`, stringify({ services }));
		renameSync(`${this.#path}.new`, this.#path);
		return this.#env.wallNow();
	}
}
