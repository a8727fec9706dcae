// SPDX-License-Identifier: Apache-2.0
// A TCP proxy that fails on command. Bytes of one direction stay in order whatever the fault: what is held is kept
// and delivered later, a cut drops the rest.
import { once } from 'node:events';
import net from 'node:net';

export type Direction = 'up' | 'down';

/** One proxied connection. */
export class ProxiedConnection {
	readonly #client: net.Socket;
	readonly #server: net.Socket;
	readonly #held = { up: [] as Buffer[], down: [] as Buffer[] };
	readonly #isHeld = { up: false, down: false };
	/** Bytes that arrived from each side. */
	readonly bytes = { up: 0, down: 0 };
	/** From 1, in the order of connecting. */
	readonly number: number;

	constructor(number: number, client: net.Socket, server: net.Socket, onData: (direction: Direction, chunk: Buffer) => void) {
		this.number = number;
		this.#client = client;
		this.#server = server;
		for (const [direction, from] of [
			['up', client],
			['down', server],
		] as const) {
			from.setNoDelay(true);
			from.on('data', (chunk: Buffer) => {
				this.bytes[direction] += chunk.length;
				onData(direction, chunk);
				if (this.#isHeld[direction]) this.#held[direction].push(chunk);
				else this.#send(direction, chunk);
			});
			from.on('error', () => this.cut());
			from.on('close', () => this.cut());
		}
	}

	/** Keeps back what one side sends from now on. */
	hold(direction: Direction): void {
		this.#isHeld[direction] = true;
	}

	release(direction: Direction): void {
		this.#isHeld[direction] = false;
		for (const chunk of this.#held[direction].splice(0)) this.#send(direction, chunk);
	}

	/** Ends both sides at once; what was under way is lost. */
	cut(): void {
		this.#client.destroy();
		this.#server.destroy();
	}

	#send(direction: Direction, chunk: Buffer): void {
		const to = direction === 'up' ? this.#server : this.#client;
		if (!to.destroyed) to.write(chunk);
	}
}

export class FaultProxy {
	readonly #server: net.Server;
	readonly #open = new Set<ProxiedConnection>();
	#total = 0;
	/** Where new connections go. */
	targetPort: number;
	/** Connections are closed as soon as they are made. */
	isRefusing = false;
	/** Called with every chunk before it is passed on; may hold, cut or count. */
	onData: (connection: ProxiedConnection, direction: Direction, chunk: Buffer) => void = () => undefined;

	private constructor(targetPort: number) {
		this.targetPort = targetPort;
		this.#server = net.createServer((client) => this.#accept(client));
	}

	static async start(targetPort: number): Promise<FaultProxy> {
		const proxy = new FaultProxy(targetPort);
		proxy.#server.listen(0, '127.0.0.1');
		await once(proxy.#server, 'listening');
		return proxy;
	}

	get port(): number {
		return (this.#server.address() as net.AddressInfo).port;
	}

	get connections(): readonly ProxiedConnection[] {
		return [...this.#open];
	}

	/** Connections ever made. */
	get total(): number {
		return this.#total;
	}

	/** Cuts everything that is open. */
	cutAll(): void {
		for (const connection of this.#open) connection.cut();
	}

	/** Nothing is passed on in either direction, on what is open now. */
	holdAll(): void {
		for (const connection of this.#open) for (const d of ['up', 'down'] as const) connection.hold(d);
	}

	releaseAll(): void {
		for (const connection of this.#open) for (const d of ['up', 'down'] as const) connection.release(d);
	}

	async dispose(): Promise<void> {
		this.cutAll();
		await new Promise((resolve) => this.#server.close(resolve));
	}

	#accept(client: net.Socket): void {
		this.#total++;
		if (this.isRefusing) {
			client.on('error', () => undefined);
			client.resetAndDestroy();
			return;
		}
		const server = net.connect(this.targetPort, '127.0.0.1');
		const connection = new ProxiedConnection(this.#total, client, server, (d, chunk) => this.onData(connection, d, chunk));
		this.#open.add(connection);
		client.on('close', () => this.#open.delete(connection));
	}
}
