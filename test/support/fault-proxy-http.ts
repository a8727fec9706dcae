// SPDX-License-Identifier: Apache-2.0
// A reverse proxy that can answer in the registry's stead: with pages of HTML, without headers, at once and for ever,
// with half a body. What a test does not take over goes through unchanged.
import { once } from 'node:events';
import http from 'node:http';
import type net from 'node:net';

export type TakeOver = (request: http.IncomingMessage, response: http.ServerResponse) => boolean;

export class HttpFaultProxy {
	readonly #server: http.Server;
	readonly #sockets = new Set<net.Socket>();
	targetPort: number;
	/** Requests that arrived, as path and query. */
	readonly requests: string[] = [];
	/** Answers a request itself and returns true, or returns false. */
	takeOver: TakeOver = () => false;
	/** Changes the headers of an answer that goes through. */
	headers: (headers: http.IncomingHttpHeaders) => http.IncomingHttpHeaders = (h) => h;

	private constructor(targetPort: number) {
		this.targetPort = targetPort;
		this.#server = http.createServer((request, response) => this.#serve(request, response));
		this.#server.on('connection', (socket: net.Socket) => {
			this.#sockets.add(socket);
			socket.on('close', () => this.#sockets.delete(socket));
		});
	}

	static async start(targetPort: number): Promise<HttpFaultProxy> {
		const proxy = new HttpFaultProxy(targetPort);
		proxy.#server.listen(0, '127.0.0.1');
		await once(proxy.#server, 'listening');
		return proxy;
	}

	get port(): number {
		return (this.#server.address() as net.AddressInfo).port;
	}

	get connections(): number {
		return this.#sockets.size;
	}

	/** Closes all connections of clients, idle ones too. */
	cutAll(): void {
		for (const socket of this.#sockets) socket.destroy();
	}

	async dispose(): Promise<void> {
		this.cutAll();
		await new Promise((resolve) => this.#server.close(resolve));
	}

	#serve(request: http.IncomingMessage, response: http.ServerResponse): void {
		this.requests.push(request.url ?? '');
		if (this.takeOver(request, response)) return;
		const { method, url: path, headers } = request;
		const onward = http.request({ host: '127.0.0.1', port: this.targetPort, method, path, headers, agent: false }, (answer) => {
			response.writeHead(answer.statusCode ?? 500, this.headers(answer.headers));
			answer.pipe(response);
			answer.on('error', () => response.destroy());
		});
		onward.on('error', () => response.destroy());
		response.on('close', () => onward.destroy());
		request.pipe(onward);
	}
}
