// SPDX-License-Identifier: Apache-2.0
// The real daemon, `xdpilot run`, as a child in the balancer's namespace; asked over its control socket, killed and
// started again like any other process.
import { fileURLToPath } from 'node:url';
import { type Env, sleep } from '../env.ts';
import { isXdpilotError, XdpilotError } from '../errors.ts';
import type { Argv } from '../host/command.ts';
import { requestControl } from '../observe/control-client.ts';
import { flowQuery } from '../observe/flow-query.ts';
import type { StatusReport, WhyReport } from '../observe/report.ts';
import type { NetnsProcess } from './netns-process.ts';
import { loaderArguments } from './node-script.ts';
import type { Topology } from './topology.ts';

const ASK_AGAIN_MS = 10;
const START_MS = 20_000;

/** This very program with other arguments. */
export function xdpilotArgv(...args: readonly string[]): Argv {
	const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
	const main = fileURLToPath(new URL(`../main.${extension}`, import.meta.url));
	return [process.execPath, ...loaderArguments(process.execArgv), main, ...args];
}

export class DaemonProcess {
	readonly #env: Env;
	readonly #topology: Topology;
	readonly #configPath: string;
	readonly #socket: string;
	#process: NetnsProcess | undefined;

	constructor(env: Env, topology: Topology, configPath: string, socket: string) {
		this.#env = env;
		this.#topology = topology;
		this.#configPath = configPath;
		this.#socket = socket;
	}

	/** Resolves when `isReady` accepts a status. @throws XdpilotError E_DEMO when it ends before */
	async start(isReady: (status: StatusReport) => boolean): Promise<StatusReport> {
		const argv = xdpilotArgv('run', '-c', this.#configPath);
		this.#process = this.#topology.spawn(this.#topology.lb, argv, { name: 'xdpilot run' });
		return this.until(isReady, START_MS);
	}

	/** Asks for the status until `accept` does. @throws XdpilotError E_DEMO after `ms`, or when the daemon has ended */
	async until(accept: (status: StatusReport) => boolean, ms: number): Promise<StatusReport> {
		const deadline = this.#env.now() + ms;
		let last: unknown;
		while (this.#env.now() < deadline) {
			this.check();
			try {
				const status = await this.status();
				last = status;
				if (accept(status)) return status;
			} catch (e) {
				if (!isXdpilotError(e)) throw e;
				last = e;
			}
			await sleep(this.#env, ASK_AGAIN_MS);
		}
		this.check();
		const seen = last instanceof Error ? last.message : JSON.stringify(last);
		throw new XdpilotError('E_DEMO', `the daemon is not where it should be after ${ms} ms; it says: ${seen}`);
	}

	async status(): Promise<StatusReport> {
		return (await requestControl({ socket: this.#socket, method: 'GET', path: '/status' })) as StatusReport;
	}

	async why(source: string, dest: string): Promise<WhyReport> {
		return (await requestControl({ socket: this.#socket, method: 'GET', path: `/why?${flowQuery(source, dest)}` })) as WhyReport;
	}

	/** kill -9; resolves when it has gone. */
	async kill(): Promise<void> {
		this.#process?.kill('SIGKILL');
		await this.#process?.ended;
		this.#process = undefined;
	}

	/** @throws XdpilotError E_DEMO when it has ended by itself */
	check(): void {
		if (this.#process?.ending !== undefined) throw this.#process.failure();
	}
}
