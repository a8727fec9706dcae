// SPDX-License-Identifier: Apache-2.0
// A registry server as a child process: own data directory, own ports on loopback, ended by its pid when the test is
// over or the test process goes, whichever comes first. Every wait is bounded.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Polls until the condition holds. @throws Error naming `what` after `ms` */
export async function until(what: string, condition: () => boolean | Promise<boolean>, ms = 20_000): Promise<void> {
	const end = Date.now() + ms;
	for (;;) {
		if (await condition()) return;
		if (Date.now() > end) throw new Error(`waited ${ms} ms in vain: ${what}`);
		await new Promise((resolve) => setTimeout(resolve, 10));
	}
}

/** Ports of loopback that were free a moment ago. */
export async function freePorts(count: number): Promise<number[]> {
	const servers = Array.from({ length: count }, () => net.createServer().listen(0, '127.0.0.1'));
	await Promise.all(servers.map((s) => once(s, 'listening')));
	const ports = servers.map((s) => (s.address() as net.AddressInfo).port);
	await Promise.all(servers.map((s) => new Promise((resolve) => s.close(resolve))));
	return ports;
}

export interface ServerCommand {
	readonly name: string;
	readonly binary: string;
	readonly args: readonly string[];
	readonly isReady: () => Promise<boolean>;
}

export class ServerProcess {
	readonly folder: string;
	#command: ServerCommand | undefined;
	#child: ChildProcess | undefined;
	readonly #onExit = () => this.#child?.kill('SIGKILL');

	constructor(name: string) {
		this.folder = mkdtempSync(join(tmpdir(), `xdpilot-test-${name}-${process.pid}-`));
		process.on('exit', this.#onExit);
	}

	/** Starts the program and waits until it answers. @throws Error with the end of its log */
	async start(command: ServerCommand): Promise<void> {
		this.#command = command;
		const log = openSync(join(this.folder, 'log'), 'a');
		const child = spawn(command.binary, command.args, { stdio: ['ignore', log, log] });
		closeSync(log);
		this.#child = child;
		let failure: Error | undefined;
		child.on('error', (e) => {
			failure = e;
		});
		await until(
			`${command.name} is ready`,
			async () => {
				if (failure !== undefined || child.exitCode !== null || child.signalCode !== null) throw new Error(this.#obituary(failure));
				return await command.isReady().catch(() => false);
			},
			30_000,
		);
	}

	/** Starts again what was started before. */
	async restart(): Promise<void> {
		if (this.#command === undefined) throw new Error('nothing was started yet');
		await this.stop('SIGKILL');
		await this.start(this.#command);
	}

	/** Ends the program and waits for it to be gone. */
	async stop(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
		const child = this.#child;
		this.#child = undefined;
		if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
		const gone = once(child, 'exit');
		child.kill('SIGCONT');
		child.kill(signal);
		const timer = setTimeout(() => child.kill('SIGKILL'), 5000);
		await gone;
		clearTimeout(timer);
	}

	/** SIGSTOP: the kernel still accepts connections, nobody answers. */
	freeze(): void {
		this.#child?.kill('SIGSTOP');
	}

	thaw(): void {
		this.#child?.kill('SIGCONT');
	}

	async dispose(): Promise<void> {
		await this.stop();
		process.off('exit', this.#onExit);
		rmSync(this.folder, { recursive: true, force: true });
	}

	#obituary(failure: Error | undefined): string {
		const tail = readFileSync(join(this.folder, 'log'), 'utf8').split('\n').slice(-8).join('\n');
		return `${this.#command?.name} did not start: ${failure?.message ?? 'it ended'}\n${tail}`;
	}
}
