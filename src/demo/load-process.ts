// SPDX-License-Identifier: Apache-2.0
// The demo's client from outside: starts the load in the client's namespace and collects its record of every exchange.
import type { Env } from '../env.ts';
import { XdpilotError } from '../errors.ts';
import type { NetnsProcess } from './netns-process.ts';
import { nodeScript } from './node-script.ts';
import type { Topology } from './topology.ts';
import type { Exchange, LoadPlan } from './traffic/exchange.ts';

interface LoadReport {
	readonly ready?: true;
	readonly exchanges?: readonly Exchange[];
	readonly stopped?: true;
}

const ANSWER_MS = 20_000;

export class LoadProcess {
	/** In the order in which they were settled. */
	readonly exchanges: Exchange[] = [];
	readonly #env: Env;
	readonly #process: NetnsProcess;
	readonly #heard = new Set<'ready' | 'stopped'>();
	#onHeard: () => void = () => {};

	private constructor(env: Env, topology: Topology) {
		this.#env = env;
		this.#process = topology.spawn(topology.client, nodeScript(import.meta.url, './traffic/client-process'), { name: 'client', ipc: true });
		this.#process.onMessage((m) => this.#hear(m as LoadReport));
	}

	/** Starts the process; no traffic yet. */
	static async start(env: Env, topology: Topology): Promise<LoadProcess> {
		const load = new LoadProcess(env, topology);
		await load.#until('ready');
		return load;
	}

	begin(plan: LoadPlan): void {
		this.#process.send({ plan });
	}

	/** No new request after this; resolves when the last one is settled and recorded. */
	async stop(): Promise<void> {
		this.#process.send({ stop: true });
		await this.#until('stopped');
	}

	/** @throws XdpilotError E_DEMO when it has ended by itself */
	check(): void {
		if (this.#process.ending !== undefined && !this.#heard.has('stopped')) throw this.#process.failure();
	}

	#until(what: 'ready' | 'stopped'): Promise<void> {
		return new Promise((resolve, reject) => {
			const timer = this.#env.setTimer(ANSWER_MS, () =>
				reject(new XdpilotError('E_DEMO', `the client is not ${what} after ${ANSWER_MS} ms`)),
			);
			const settle = (fn: () => void) => {
				timer.cancel();
				fn();
			};
			this.#onHeard = () => {
				if (this.#heard.has(what)) settle(resolve);
			};
			this.#onHeard();
			void this.#process.ended.then(() => settle(() => (this.#heard.has(what) ? resolve() : reject(this.#process.failure()))));
		});
	}

	#hear(report: LoadReport): void {
		// One by one: a spread of thousands would overflow the stack.
		for (const e of report.exchanges ?? []) this.exchanges.push(e);
		if (report.ready) this.#heard.add('ready');
		if (report.stopped) this.#heard.add('stopped');
		this.#onHeard();
	}
}
