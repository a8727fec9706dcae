// SPDX-License-Identifier: Apache-2.0
// One UDP flow: numbered datagrams out, each answered with its number and the name of the backend. UDP repeats nothing,
// so every lost packet shows.
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import type { Env } from '../../env.ts';
import { type Address, familyOf } from '../../model/address.ts';
import { type FlowKey, flowKey, type Target } from './exchange.ts';

export class DatagramFlow {
	readonly flow: FlowKey;
	readonly #env: Env;
	readonly #socket: Socket;
	readonly #deadlineMs: number;
	readonly #waiting = new Map<number, (backend: string | Error) => void>();
	#next = 0;

	private constructor(env: Env, socket: Socket, flow: FlowKey, deadlineMs: number) {
		this.#env = env;
		this.#socket = socket;
		this.flow = flow;
		this.#deadlineMs = deadlineMs;
		socket.on('message', (message) => this.#receive(message.toString('latin1')));
		// An ICMP error for an earlier datagram: that one fails at once instead of at its deadline.
		socket.on('error', (e) => this.#failAll(e));
	}

	static async open(env: Env, source: Address, sourcePort: number, target: Target, deadlineMs: number): Promise<DatagramFlow> {
		const socket = createSocket(familyOf(source) === 4 ? 'udp4' : 'udp6');
		socket.bind(sourcePort, source);
		await once(socket, 'listening');
		socket.connect(target.port, target.address);
		await once(socket, 'connect');
		return new DatagramFlow(env, socket, flowKey(source, sourcePort, target.address, target.port, 'udp'), deadlineMs);
	}

	/** One datagram; many may be under way. Resolves with the name of the backend. */
	request(): Promise<string> {
		const number = this.#next++;
		return new Promise((resolve, reject) => {
			const settle = (outcome: string | Error) => {
				timer.cancel();
				this.#waiting.delete(number);
				if (outcome instanceof Error) reject(outcome);
				else resolve(outcome);
			};
			const timer = this.#env.setTimer(this.#deadlineMs, () => settle(new Error(`no answer in ${this.#deadlineMs} ms`)));
			this.#waiting.set(number, settle);
			this.#socket.send(String(number), (e) => {
				if (e !== null && e !== undefined) settle(e);
			});
		});
	}

	close(): void {
		this.#failAll(new Error('closed'));
		this.#socket.close();
	}

	#receive(message: string): void {
		const [number = '', backend = ''] = message.split(' ', 2);
		this.#waiting.get(Number(number))?.(backend);
	}

	#failAll(e: Error): void {
		for (const settle of [...this.#waiting.values()]) settle(e);
	}
}
