// SPDX-License-Identifier: Apache-2.0
// A process inside a network namespace. nsenter(1) and setpriv(1) replace themselves with the program, so the pid is the
// program's own and a signal reaches it; bpffs stays visible, which `ip netns exec` would hide. It dies with its parent.
import { type ChildProcess, spawn } from 'node:child_process';
import type { Env } from '../env.ts';
import { XdpilotError } from '../errors.ts';
import { type Argv, inNetns } from '../host/command.ts';

export interface SpawnOptions {
	/** For messages. */
	readonly name: string;
	readonly env?: Readonly<Record<string, string>>;
	/** Opens an IPC channel for process.send(); only for Node children. */
	readonly ipc?: boolean;
	/** Each line of stdout and stderr. */
	readonly onLine?: (line: string) => void;
}

/** How a process ended. */
export interface Ending {
	readonly code: number | null;
	readonly signal: NodeJS.Signals | null;
}

const KEPT_LINES = 200;

export class NetnsProcess {
	readonly name: string;
	readonly ended: Promise<Ending>;
	readonly #child: ChildProcess;
	readonly #lines: string[] = [];
	#ending: Ending | undefined;

	constructor(argv: Argv, netns: string | undefined, opts: SpawnOptions) {
		const [file, ...args] = inNetns(['setpriv', '--pdeathsig', 'KILL', '--', ...argv], netns);
		this.name = opts.name;
		const child = spawn(file, args, {
			stdio: ['ignore', 'pipe', 'pipe', ...(opts.ipc ? (['ipc'] as const) : [])],
			env: { ...process.env, ...opts.env },
			// Ctrl-C on a terminal goes to the whole foreground group; the owner decides when its children end.
			detached: true,
		});
		this.#child = child;
		for (const stream of [child.stdout, child.stderr]) this.#readLines(stream, opts.onLine);
		this.ended = new Promise((resolve) => {
			const finish = (ending: Ending) => {
				this.#ending = ending;
				resolve(ending);
			};
			child.once('exit', (code, signal) => finish({ code, signal }));
			child.once('error', (e) => {
				this.#lines.push(e.message);
				finish({ code: null, signal: null });
			});
		});
	}

	get pid(): number {
		return this.#child.pid ?? 0;
	}

	/** undefined while it runs. */
	get ending(): Ending | undefined {
		return this.#ending;
	}

	/** The last lines that it printed, for messages about its failure. */
	get lastLines(): readonly string[] {
		return this.#lines;
	}

	send(message: object): void {
		if (this.#child.connected) this.#child.send(message, () => {});
	}

	onMessage(listener: (message: unknown) => void): void {
		this.#child.on('message', listener);
	}

	kill(signal: NodeJS.Signals): void {
		if (this.#ending === undefined) this.#child.kill(signal);
	}

	/** Asks it to end, and kills it when it has not after `graceMs`. Resolves when it has gone. */
	async stop(env: Env, graceMs: number): Promise<Ending> {
		this.kill('SIGTERM');
		const timer = env.setTimer(graceMs, () => this.kill('SIGKILL'));
		const ending = await this.ended;
		timer.cancel();
		return ending;
	}

	/** The error for a process that ended although it should not have. */
	failure(): XdpilotError {
		const how = this.#ending?.signal ?? `status ${this.#ending?.code}`;
		const said = this.#lines.slice(-5).join('\n');
		return new XdpilotError('E_DEMO', `${this.name} ended with ${how}${said === '' ? '' : `; it said:\n${said}`}`);
	}

	#readLines(stream: NodeJS.ReadableStream | null, onLine: ((line: string) => void) | undefined): void {
		let rest = '';
		stream?.setEncoding('utf8');
		stream?.on('data', (chunk: string) => {
			const lines = (rest + chunk).split('\n');
			rest = lines.pop() ?? '';
			for (const line of lines) {
				this.#lines.push(line);
				if (this.#lines.length > KEPT_LINES) this.#lines.shift();
				onLine?.(line);
			}
		});
	}
}
