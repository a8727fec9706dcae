// SPDX-License-Identifier: Apache-2.0
// Runs a system program (ip, ethtool, sysctl ...) with a deadline. Arguments are always an array: nothing here ever
// passes through a shell. A failure is an E_HOST that names the program, its exit status and what it said.
import { type ExecFileException, execFile, spawn } from 'node:child_process';
import { XdpilotError } from '../errors.ts';

export type Argv = readonly [string, ...string[]];

export interface CommandOptions {
	/** Path of a network namespace to run in, e.g. /run/netns/lb. bpffs stays visible, unlike under `ip netns exec`. */
	readonly netns?: string | undefined;
	/** Milliseconds after which the program is killed; 5000 by default. */
	readonly deadlineMs?: number;
	/** What to give it on stdin. */
	readonly input?: string;
}

const OUTPUT_LIMIT = 64 * 1024 * 1024;

/** `argv` prefixed so that it runs in the network namespace at `netns`; unchanged without one. */
export function inNetns(argv: Argv, netns: string | undefined): Argv {
	return netns === undefined ? argv : ['nsenter', `--net=${netns}`, '--', ...argv];
}

/** Runs a program and resolves with its stdout. @throws XdpilotError E_HOST on any failure, E_PLATFORM when it is not installed */
export function runCommand(argv: Argv, opts: CommandOptions = {}): Promise<string> {
	const [file, ...args] = inNetns(argv, opts.netns);
	const deadlineMs = opts.deadlineMs ?? 5000;
	return new Promise((resolve, reject) => {
		const child = execFile(
			file,
			args,
			{ timeout: deadlineMs, killSignal: 'SIGKILL', maxBuffer: OUTPUT_LIMIT, encoding: 'utf8', env: commandEnvironment() },
			(error, stdout, stderr) => {
				if (error === null) resolve(stdout);
				else reject(commandError(argv, error, stderr, deadlineMs));
			},
		);
		// A program that exits without reading its input closes the pipe; its exit status tells the story.
		child.stdin?.on('error', () => {});
		child.stdin?.end(opts.input ?? '');
	});
}

/** Runs a program that prints JSON. An empty answer, as `ip -j` gives for no rows, is an empty list. */
export async function runJson(argv: Argv, opts: CommandOptions = {}): Promise<unknown> {
	const text = await runCommand(argv, opts);
	if (text.trim() === '') return [];
	try {
		return JSON.parse(text) as unknown;
	} catch (cause) {
		throw new XdpilotError('E_HOST', `${argv.join(' ')} printed no JSON: ${text.slice(0, 120)}`, { cause });
	}
}

export interface LineReader {
	/** Ends the program and waits until it has gone. */
	close(): Promise<void>;
}

/**
 * Starts a program that reports events line by line, as `ip monitor` does. `onEnd` is called once, with the reason, when the
 * program ends by itself; never after close().
 */
export function readLines(argv: Argv, netns: string | undefined, onLine: (line: string) => void, onEnd: (why: string) => void): LineReader {
	const [file, ...args] = inNetns(argv, netns);
	const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'ignore'], env: commandEnvironment() });
	let closing = false;
	let rest = '';
	child.stdout.setEncoding('utf8');
	child.stdout.on('data', (chunk: string) => {
		const lines = (rest + chunk).split('\n');
		rest = lines.pop() ?? '';
		if (!closing) for (const line of lines) onLine(line);
	});
	const ended = new Promise<void>((resolve) => {
		const finish = (why: string) => {
			resolve();
			if (!closing) onEnd(why);
			closing = true;
		};
		child.once('error', (e) => finish(e.message));
		child.once('close', (status, signal) => finish(`${argv.join(' ')} ended with ${signal ?? `status ${status}`}`));
	});
	return {
		close: () => {
			closing = true;
			child.kill('SIGKILL');
			return ended;
		},
	};
}

/** System programs live in sbin, which the PATH of a plain user and of some units lacks; messages stay in English. */
function commandEnvironment(): NodeJS.ProcessEnv {
	const path = process.env.PATH ?? '/usr/bin:/bin';
	return { ...process.env, PATH: `${path}:/usr/local/sbin:/usr/sbin:/sbin`, LC_ALL: 'C' };
}

function commandError(argv: Argv, error: ExecFileException, stderr: string, deadlineMs: number): XdpilotError {
	const command = argv.join(' ');
	if (error.code === 'ENOENT') {
		return new XdpilotError('E_PLATFORM', `${argv[0]} is not installed`, {
			hint: 'apt-get install iproute2 ethtool util-linux procps',
			cause: error,
		});
	}
	if (error.killed) return new XdpilotError('E_HOST', `${command} did not end within ${deadlineMs} ms`, { cause: error, retryable: true });
	const said = stderr.trim().split('\n').slice(0, 3).join('; ') || error.message;
	return new XdpilotError('E_HOST', `${command} failed: ${said}`, { cause: error });
}
