// SPDX-License-Identifier: Apache-2.0
// One TCP connection that asks for a page again and again and hears who answers. Plain sockets instead of node:http's
// agent, which would silently open another connection where this one has to be seen failing.
import { connect, type Socket } from 'node:net';
import type { Env } from '../../env.ts';
import type { Address } from '../../model/address.ts';
import { type FlowKey, flowKey, type Target } from './exchange.ts';

export class HttpFlow {
	readonly flow: FlowKey;
	readonly #env: Env;
	readonly #socket: Socket;
	readonly #deadlineMs: number;
	#received = '';
	#waiting: { resolve(backend: string): void; reject(e: Error): void } | undefined;
	#failure: Error | undefined;

	private constructor(env: Env, socket: Socket, flow: FlowKey, deadlineMs: number) {
		this.#env = env;
		this.#socket = socket;
		this.flow = flow;
		this.#deadlineMs = deadlineMs;
		socket.setEncoding('latin1');
		socket.setNoDelay(true);
		socket.on('data', (chunk: string) => this.#receive(chunk));
		socket.on('error', (e) => this.#fail(e));
		socket.on('close', () => this.#fail(new Error('closed by the server')));
	}

	/** Starts connecting; a failure to connect is the first request's failure. */
	static open(env: Env, source: Address, sourcePort: number, target: Target, deadlineMs: number): HttpFlow {
		const socket = connect({ host: target.address, port: target.port, localAddress: source, localPort: sourcePort });
		return new HttpFlow(env, socket, flowKey(source, sourcePort, target.address, target.port, 'tcp'), deadlineMs);
	}

	/** One request; one at a time. Resolves with the name of the backend. */
	request(): Promise<string> {
		if (this.#failure !== undefined) return Promise.reject(this.#failure);
		return new Promise((resolve, reject) => {
			const timer = this.#env.setTimer(this.#deadlineMs, () => this.#fail(new Error(`no answer in ${this.#deadlineMs} ms`)));
			const settle = () => {
				timer.cancel();
				this.#waiting = undefined;
			};
			this.#waiting = {
				resolve: (backend) => {
					settle();
					resolve(backend);
				},
				reject: (e) => {
					settle();
					reject(e);
				},
			};
			this.#socket.write('GET / HTTP/1.1\r\nHost: demo\r\n\r\n');
		});
	}

	/** Closes from this side, so that the port waits here and can't come back as another flow. */
	close(): void {
		this.#failure ??= new Error('closed');
		this.#socket.end();
	}

	#receive(chunk: string): void {
		this.#received += chunk;
		const headEnd = this.#received.indexOf('\r\n\r\n');
		if (headEnd < 0) return;
		const head = this.#received.slice(0, headEnd);
		const length = Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? Number.NaN);
		const bodyEnd = headEnd + 4 + length;
		if (this.#received.length < bodyEnd) return;
		const body = this.#received.slice(headEnd + 4, bodyEnd);
		this.#received = this.#received.slice(bodyEnd);
		if (!head.startsWith('HTTP/1.1 200 ') || Number.isNaN(length)) this.#fail(new Error(`unexpected answer: ${head.slice(0, 40)}`));
		else this.#waiting?.resolve(body.trim());
	}

	#fail(e: Error): void {
		this.#failure ??= e;
		this.#waiting?.reject(this.#failure);
		this.#socket.destroy();
	}
}
