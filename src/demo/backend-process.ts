// SPDX-License-Identifier: Apache-2.0
// One demo backend from outside: its namespace, its process, its entry in the registry, and what it says it saw.
// What a killed backend had seen is kept.
import type { Env } from '../env.ts';
import { XdpilotError } from '../errors.ts';
import type { NetnsProcess } from './netns-process.ts';
import { nodeScript } from './node-script.ts';
import type { Announcement } from './registry/announcement.ts';
import type { Topology, TopologyNode } from './topology.ts';
import type { FlowKey, SeenFlow, Target } from './traffic/exchange.ts';
import type { ServerOrder } from './traffic/server-process.ts';

/** What a server process reports; every member may be absent. */
interface ServerReport {
	readonly ready?: true;
	readonly listening?: true;
	readonly announced?: number;
	readonly withdrawn?: number;
	readonly seen?: readonly SeenFlow[];
	readonly failed?: string;
}

type Awaited = 'ready' | 'listening' | 'announced' | 'withdrawn';
const ANSWER_MS = 25_000;

export class BackendProcess {
	readonly node: TopologyNode;
	/** Every flow that reached it. */
	readonly seen = new Map<FlowKey, SeenFlow>();
	readonly #env: Env;
	readonly #process: NetnsProcess;
	readonly #waiting = new Map<Awaited, { resolve(value: number): void; reject(e: Error): void }>();

	private constructor(env: Env, topology: Topology, node: TopologyNode) {
		this.#env = env;
		this.node = node;
		this.#process = topology.spawn(node, nodeScript(import.meta.url, './traffic/server-process'), { name: node.name, ipc: true });
		this.#process.onMessage((m) => this.#hear(m as ServerReport));
		void this.#process.ended.then(() => {
			for (const w of this.#waiting.values()) w.reject(this.#process.failure());
		});
	}

	/** Resolves when it serves all targets. @throws XdpilotError E_DEMO */
	static async start(env: Env, topology: Topology, node: TopologyNode, targets: readonly Target[]): Promise<BackendProcess> {
		const backend = new BackendProcess(env, topology, node);
		await backend.#answer('ready');
		await backend.#order({ listen: { name: node.name, targets } }, 'listening');
		return backend;
	}

	get name(): string {
		return this.node.name;
	}

	/** Puts itself into the registry. Resolves with the wall-clock time at which the registry confirmed. */
	announce(announcement: Announcement): Promise<number> {
		return this.#order({ announce: announcement }, 'announced');
	}

	/** Takes itself out of the registry, and goes on serving. Resolves like announce(). */
	withdraw(): Promise<number> {
		return this.#order({ withdraw: true }, 'withdrawn');
	}

	/** kill -9. Resolves with the wall-clock time when it was sent. */
	async kill(): Promise<number> {
		const at = this.#env.wallNow();
		this.#process.kill('SIGKILL');
		await this.#process.ended;
		return at;
	}

	/** Lives on when the demo ends. */
	stay(): void {
		this.#process.send({ stay: true });
	}

	#order(order: ServerOrder, awaited: Awaited): Promise<number> {
		this.#process.send(order);
		return this.#answer(awaited);
	}

	#answer(awaited: Awaited): Promise<number> {
		return new Promise((resolve, reject) => {
			const settle = () => {
				timer.cancel();
				this.#waiting.delete(awaited);
			};
			const fail = (e: Error) => {
				settle();
				reject(e);
			};
			const timer = this.#env.setTimer(ANSWER_MS, () =>
				fail(new XdpilotError('E_DEMO', `${this.name} is not ${awaited} after ${ANSWER_MS} ms`)),
			);
			this.#waiting.set(awaited, {
				resolve: (value) => {
					settle();
					resolve(value);
				},
				reject: fail,
			});
		});
	}

	#hear(report: ServerReport): void {
		for (const flow of report.seen ?? []) this.seen.set(flow.flow, flow);
		if (report.ready) this.#waiting.get('ready')?.resolve(0);
		if (report.listening) this.#waiting.get('listening')?.resolve(0);
		if (report.announced !== undefined) this.#waiting.get('announced')?.resolve(report.announced);
		if (report.withdrawn !== undefined) this.#waiting.get('withdrawn')?.resolve(report.withdrawn);
		if (report.failed !== undefined) {
			for (const w of this.#waiting.values()) w.reject(new XdpilotError('E_DEMO', `${this.name}: ${report.failed}`));
		}
	}
}
