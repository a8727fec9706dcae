// SPDX-License-Identifier: Apache-2.0
// A process inside a network namespace. nsenter(1) and setpriv(1) replace themselves with the program, so the pid is the
// program's own and a signal reaches it; bpffs stays visible, which `ip netns exec` would hide. It dies with
// its parent unless told otherwise, and writes to a file, so that it never hangs on a reader.
import { type ChildProcess, spawn } from 'node:child_process';
import { appendFileSync, closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import type { Env } from '../env.ts';
import { XdpilotError } from '../errors.ts';
import { type Argv, inNetns } from '../host/command.ts';

export interface SpawnOptions {
	/** For messages. */
	readonly name: string;
	/** File that its stdout and stderr are appended to. */
	readonly logFile: string;
	readonly env?: Readonly<Record<string, string>>;
	/** Opens an IPC channel for send(); only for Node children. */
	readonly ipc?: boolean;
	/** Lives on when its parent dies. */
	readonly outlive?: boolean;
}

/** How a process ended. */
export interface Ending {
	readonly code: number | null;
	readonly signal: NodeJS.Signals | null;
}

/** Lines of the log that a failure shows. */
const SHOWN_LINES = 5;

export class NetnsProcess {
	readonly name: string;
	readonly logFile: string;
	readonly ended: Promise<Ending>;
	readonly #child: ChildProcess;
	#ending: Ending | undefined;

	constructor(argv: Argv, netns: string | undefined, opts: SpawnOptions) {
		const tied: Argv = opts.outlive ? argv : ['setpriv', '--pdeathsig', 'KILL', '--', ...argv];
		const [file, ...args] = inNetns(tied, netns);
		this.name = opts.name;
		this.logFile = opts.logFile;
		const log = openSync(opts.logFile, 'a');
		const child = spawn(file, args, {
			stdio: ['ignore', log, log, ...(opts.ipc ? (['ipc'] as const) : [])],
			env: { ...process.env, ...opts.env },
			// Ctrl-C on a terminal goes to the whole foreground group; the owner decides when its children end.
			detached: true,
		});
		closeSync(log);
		this.#child = child;
		this.ended = new Promise((resolve) => {
			const finish = (ending: Ending) => {
				this.#ending ??= ending;
				resolve(this.#ending);
			};
			child.once('exit', (code, signal) => finish({ code, signal }));
			child.once('error', (e) => {
				appendFileSync(opts.logFile, `${e.message}\n`);
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

	/** Lets the parent exit although it still runs. */
	release(): void {
		this.#child.unref();
		if (this.#child.connected) this.#child.disconnect();
	}

	/** The error for a process that ended although it should not have. */
	failure(): XdpilotError {
		const how = this.#ending?.signal ?? `status ${this.#ending?.code}`;
		const said = existsSync(this.logFile) ? readFileSync(this.logFile, 'utf8').trim().split('\n').slice(-SHOWN_LINES).join('\n') : '';
		return new XdpilotError('E_DEMO', `${this.name} ended with ${how}${said === '' ? '' : `; it said:\n${said}`}`);
	}
}
