// SPDX-License-Identifier: Apache-2.0
// The demo's client: new connections at a steady pace (an open loop: a slow answer delays no other request), and TCP and
// UDP flows that stay. Every exchange is recorded once, with its flow, its outcome and who answered.
import { type Env, sleep } from '../../env.ts';
import { messageOf } from '../../errors.ts';
import type { Address } from '../../model/address.ts';
import { DatagramFlow } from './datagram-flow.ts';
import { type Exchange, type ExchangeKind, flowKey, type LoadPlan, sourceFor, type Target } from './exchange.ts';
import { HttpFlow } from './http-flow.ts';

/** Below the kernel's own range, so that no port comes back as another flow within a run of some minutes. */
const FIRST_PORT = 10_000;
const LAST_PORT = 32_767;
const RECONNECT_MS = 20;

interface RequestFlow {
	readonly flow: string;
	request(): Promise<string>;
	close(): void;
}

export class Load {
	readonly #env: Env;
	readonly #plan: LoadPlan;
	readonly #record: (e: Exchange) => void;
	readonly #stop = new AbortController();
	readonly #running: Promise<void>[] = [];
	#port = FIRST_PORT;

	constructor(env: Env, plan: LoadPlan, record: (e: Exchange) => void) {
		this.#env = env;
		this.#plan = plan;
		this.#record = record;
	}

	start(): void {
		if (this.#plan.newPerSecond > 0) this.#running.push(this.#newConnections());
		for (const target of this.#plan.targets) {
			for (let i = 0; i < this.#plan.kept; i++) this.#running.push(this.#keptFlow('kept', target));
			for (let i = 0; i < this.#plan.datagramFlows; i++) this.#running.push(this.#keptFlow('datagram', target));
		}
	}

	/** No new request after this; resolves when the last one is settled. */
	async stop(): Promise<void> {
		this.#stop.abort();
		await Promise.all(this.#running);
	}

	async #newConnections(): Promise<void> {
		const { targets, newPerSecond } = this.#plan;
		const under = new Set<Promise<void>>();
		const begin = this.#env.now();
		for (let n = 0; !this.#stop.signal.aborted; n++) {
			const target = targets[n % targets.length];
			if (target === undefined) return;
			const one = this.#newConnection(target).finally(() => under.delete(one));
			under.add(one);
			await this.#pause(begin + ((n + 1) * 1000) / newPerSecond - this.#env.now());
		}
		await Promise.all(under);
	}

	async #newConnection(target: Target): Promise<void> {
		const flow = this.#openHttp(target);
		await this.#exchange('new', flow);
		flow.close();
	}

	/** One flow that stays; a new one takes its place when it fails. */
	async #keptFlow(kind: ExchangeKind, target: Target): Promise<void> {
		// Spread over the pace, so that the flows don't all speak at once.
		await this.#pause(this.#env.random() * this.#plan.paceMs);
		while (!this.#stop.signal.aborted) {
			const flow = await this.#open(kind, target);
			if (flow === undefined) continue;
			let isGood = true;
			while (isGood && !this.#stop.signal.aborted) {
				isGood = await this.#exchange(kind, flow);
				if (isGood) await this.#pause(this.#plan.paceMs);
			}
			flow.close();
			if (!isGood) await this.#pause(RECONNECT_MS);
		}
	}

	async #open(kind: ExchangeKind, target: Target): Promise<RequestFlow | undefined> {
		if (kind === 'kept') return this.#openHttp(target);
		const source = sourceFor(this.#plan, target);
		const port = this.#nextPort();
		try {
			return await DatagramFlow.open(this.#env, source, port, target, this.#plan.deadlineMs);
		} catch (e) {
			this.#failed(kind, target, source, port, e);
			await this.#pause(RECONNECT_MS);
			return undefined;
		}
	}

	#openHttp(target: Target): HttpFlow {
		return HttpFlow.open(this.#env, sourceFor(this.#plan, target), this.#nextPort(), target, this.#plan.deadlineMs);
	}

	async #exchange(kind: ExchangeKind, flow: RequestFlow): Promise<boolean> {
		const at = this.#env.wallNow();
		const begin = this.#env.now();
		const done = (backend: string | null, error: string | null) =>
			this.#record({ at, ms: this.#env.now() - begin, kind, flow: flow.flow, backend, error });
		try {
			done(await flow.request(), null);
			return true;
		} catch (e) {
			done(null, messageOf(e));
			return false;
		}
	}

	#failed(kind: ExchangeKind, target: Target, source: Address, port: number, e: unknown): void {
		const flow = flowKey(source, port, target.address, target.port, 'udp');
		this.#record({ at: this.#env.wallNow(), ms: 0, kind, flow, backend: null, error: messageOf(e) });
	}

	async #pause(ms: number): Promise<void> {
		// An aborted pause is the end of the run, which the loops look at themselves.
		if (ms > 0) await sleep(this.#env, ms, this.#stop.signal).catch(() => {});
	}

	#nextPort(): number {
		const port = this.#port;
		this.#port = port === LAST_PORT ? FIRST_PORT : port + 1;
		return port;
	}
}
