// SPDX-License-Identifier: Apache-2.0
// A real etcd for tests. Written to through its JSON gateway, so that tests do not use the client they test.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { findServer, supplyHint } from '../../scripts/registry-servers.mjs';
import { freePorts, ServerProcess } from './server-process.ts';

const binary = findServer('etcd');

/** Why tests that need etcd are skipped; false when there is one. */
export const skipWithoutEtcd: string | false = binary === undefined ? supplyHint('etcd') : false;

export class EtcdServer {
	readonly port: number;
	readonly #process: ServerProcess;
	readonly #args: readonly string[];

	private constructor(port: number, peerPort: number, extra: readonly string[]) {
		this.port = port;
		this.#process = new ServerProcess('etcd');
		const name = `test-${process.pid}`;
		const peer = `http://127.0.0.1:${peerPort}`;
		this.#args = [
			...['--name', name, '--data-dir', this.#data, '--log-level', 'error'],
			...['--listen-client-urls', this.url, '--advertise-client-urls', this.url],
			...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', `${name}=${peer}`],
			...extra,
		];
	}

	static async start(extra: readonly string[] = []): Promise<EtcdServer> {
		const [port = 0, peerPort = 0] = await freePorts(2);
		const server = new EtcdServer(port, peerPort, extra);
		try {
			await server.#start();
			return server;
		} catch (e) {
			await server.dispose();
			throw e;
		}
	}

	get url(): string {
		return `http://127.0.0.1:${this.port}`;
	}

	get #data(): string {
		return join(this.#process.folder, 'data');
	}

	async #start(): Promise<void> {
		const isReady = async () => ((await (await fetch(`${this.url}/health`)).json()) as { health?: string }).health === 'true';
		await this.#process.start({ name: 'etcd', binary: binary ?? 'etcd', args: this.#args, isReady });
	}

	/** Returns the revision after the write. */
	async put(key: string, value: string, lease = '0'): Promise<number> {
		return revision(await this.call('kv/put', { key: base64(key), value: base64(value), lease }));
	}

	async delete(key: string): Promise<number> {
		return revision(await this.call('kv/deleterange', { key: base64(key) }));
	}

	async deletePrefix(prefix: string): Promise<number> {
		const end = prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);
		return revision(await this.call('kv/deleterange', { key: base64(prefix), range_end: base64(end) }));
	}

	async keys(prefix: string): Promise<string[]> {
		const end = prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);
		const answer = await this.call('kv/range', { key: base64(prefix), range_end: base64(end), keys_only: true });
		const kvs = (answer.kvs ?? []) as { key: string }[];
		return kvs.map((kv) => Buffer.from(kv.key, 'base64').toString()).sort();
	}

	/** The id of a new lease. */
	async grant(seconds: number): Promise<string> {
		return String((await this.call('lease/grant', { TTL: String(seconds) })).ID);
	}

	async revoke(lease: string): Promise<void> {
		await this.call('kv/lease/revoke', { ID: lease });
	}

	async compact(at: number): Promise<void> {
		await this.call('kv/compaction', { revision: String(at), physical: true });
	}

	/** One call of the gateway. @throws Error when it is refused */
	async call(path: string, body: object, token?: string): Promise<Record<string, unknown>> {
		const headers = token === undefined ? {} : { authorization: token };
		const answer = await fetch(`${this.url}/v3/${path}`, { method: 'POST', body: JSON.stringify(body), headers });
		const text = await answer.text();
		if (!answer.ok) throw new Error(`etcd ${path}: ${text}`);
		return JSON.parse(text) as Record<string, unknown>;
	}

	stop(): Promise<void> {
		return this.#process.stop('SIGKILL');
	}

	restart(): Promise<void> {
		return this.#process.restart();
	}

	/** Starts again with nothing in it. */
	async restartEmpty(): Promise<void> {
		await this.#process.stop('SIGKILL');
		rmSync(this.#data, { recursive: true, force: true });
		await this.#start();
	}

	freeze(): void {
		this.#process.freeze();
	}

	thaw(): void {
		this.#process.thaw();
	}

	dispose(): Promise<void> {
		return this.#process.dispose();
	}
}

function base64(text: string): string {
	return Buffer.from(text).toString('base64');
}

function revision(answer: Record<string, unknown>): number {
	return Number((answer.header as { revision: string }).revision);
}
