// SPDX-License-Identifier: Apache-2.0
// The demo's backend: HTTP on the vips' TCP port and an echo on their UDP port. Answers with its name and writes down
// every flow that reached it by its 5-tuple.
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { Env } from '../../env.ts';
import { type Address, familyOf, parseAddress } from '../../model/address.ts';
import { type FlowKey, flowKey, type SeenFlow, type Target } from './exchange.ts';

export class DemoServer {
	readonly #env: Env;
	readonly #name: string;
	readonly #http: Server[] = [];
	readonly #udp: Socket[] = [];
	readonly #flows = new Map<FlowKey, SeenFlow>();
	/** Flows seen since the last takeSeen(). */
	readonly #touched = new Set<FlowKey>();

	constructor(env: Env, name: string) {
		this.#env = env;
		this.#name = name;
	}

	/** Listens on each address, which must be one of this host already: answers must leave with it as their source. */
	async listen(targets: readonly Target[]): Promise<void> {
		for (const target of targets) {
			await this.#listenHttp(target);
			await this.#listenUdp(target);
		}
	}

	/** The flows that had requests since the last call. */
	takeSeen(): SeenFlow[] {
		const seen = [...this.#touched].flatMap((key) => this.#flows.get(key) ?? []);
		this.#touched.clear();
		return seen;
	}

	/** Stops listening and breaks what is open. */
	close(): void {
		for (const server of this.#http) {
			server.close();
			server.closeAllConnections();
		}
		for (const socket of this.#udp) socket.close();
	}

	async #listenHttp(target: Target): Promise<void> {
		const server = createServer({ keepAliveTimeout: 0 }, (request, response) => {
			const { remoteAddress, remotePort } = request.socket;
			this.#see(remoteAddress, remotePort, target, 'tcp');
			const body = `${this.#name}\n`;
			response.writeHead(200, { 'content-type': 'text/plain', 'content-length': body.length });
			response.end(body);
		});
		server.listen(target.port, target.address);
		await once(server, 'listening');
		this.#http.push(server);
	}

	async #listenUdp(target: Target): Promise<void> {
		const socket = createSocket(familyOf(target.address) === 4 ? 'udp4' : 'udp6');
		socket.on('message', (message, from) => {
			this.#see(from.address, from.port, target, 'udp');
			socket.send(`${message.toString('latin1')} ${this.#name}`, from.port, from.address);
		});
		socket.bind(target.port, target.address);
		await once(socket, 'listening');
		this.#udp.push(socket);
	}

	#see(remoteAddress: string | undefined, remotePort: number | undefined, target: Target, protocol: 'tcp' | 'udp'): void {
		const source: Address | undefined = parseAddress(remoteAddress ?? '');
		if (source === undefined || remotePort === undefined) return;
		const flow = flowKey(source, remotePort, target.address, target.port, protocol);
		const known = this.#flows.get(flow);
		const now = this.#env.wallNow();
		this.#flows.set(flow, { flow, requests: (known?.requests ?? 0) + 1, firstAt: known?.firstAt ?? now, lastAt: now });
		this.#touched.add(flow);
	}
}
