// SPDX-License-Identifier: Apache-2.0
// A real etcd for tests. Written to through its JSON gateway, so that tests do not use the client they test.
import { readFileSync, rmSync } from 'node:fs';
import https from 'node:https';
import { join } from 'node:path';
import { findServer, supplyHint } from '../../scripts/registry-servers.mjs';
import { systemEnv } from '../../src/env.ts';
import { silentLogger } from '../../src/log.ts';
import { EtcdSource, type EtcdSourceOptions } from '../../src/sources/etcd/etcd-source.ts';
import { auto } from '../../src/sources/etcd/layouts/auto.ts';
import { freePorts, ServerProcess } from './server-process.ts';

const binary = findServer('etcd');

/** Why tests that need etcd are skipped; false when there is one. */
export const skipWithoutEtcd: string | false = binary === undefined ? supplyHint('etcd') : false;

/** Files with which the test itself talks to a server that wants TLS. */
export interface ClientFiles {
	readonly ca: string;
	readonly cert: string;
	readonly key: string;
}

export class EtcdServer {
	readonly port: number;
	readonly #process: ServerProcess;
	readonly #args: readonly string[];
	readonly #tls: ClientFiles | undefined;

	private constructor(port: number, peerPort: number, extra: readonly string[], tls?: ClientFiles) {
		this.port = port;
		this.#tls = tls;
		this.#process = new ServerProcess('etcd');
		const name = `test-${port}`;
		const peer = `http://127.0.0.1:${peerPort}`;
		this.#args = [
			...['--name', name, '--data-dir', this.#data, '--log-level', 'error'],
			...['--listen-client-urls', this.url, '--advertise-client-urls', this.url],
			...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', `${name}=${peer}`],
			...extra,
		];
	}

	/** Members of one cluster. */
	static async startCluster(size: number): Promise<EtcdServer[]> {
		const ports = await freePorts(2 * size);
		const pairs = Array.from({ length: size }, (_, i) => [ports[2 * i] ?? 0, ports[2 * i + 1] ?? 0] as const);
		const cluster = pairs.map(([port, peer]) => `test-${port}=http://127.0.0.1:${peer}`).join();
		const members = pairs.map(([port, peer]) => new EtcdServer(port, peer, ['--initial-cluster', cluster]));
		try {
			await Promise.all(members.map((m) => m.#start()));
			return members;
		} catch (e) {
			await Promise.all(members.map((m) => m.dispose()));
			throw e;
		}
	}

	static async start(extra: readonly string[] = [], tls?: ClientFiles): Promise<EtcdServer> {
		const [port = 0, peerPort = 0] = await freePorts(2);
		const server = new EtcdServer(port, peerPort, extra, tls);
		try {
			await server.#start();
			return server;
		} catch (e) {
			await server.dispose();
			throw e;
		}
	}

	get url(): string {
		return `${this.#tls === undefined ? 'http' : 'https'}://127.0.0.1:${this.port}`;
	}

	get #data(): string {
		return join(this.#process.folder, 'data');
	}

	async #start(): Promise<void> {
		const isReady = async () => (JSON.parse((await this.#request('GET', '/health')).text) as { health?: string }).health === 'true';
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
		const { status, text } = await this.#request('POST', `/v3/${path}`, JSON.stringify(body), token);
		if (status !== 200) throw new Error(`etcd ${path}: ${text}`);
		return JSON.parse(text) as Record<string, unknown>;
	}

	/** A source that talks to the endpoints directly; the caller closes it. */
	sourceOn(endpoints: EtcdSourceOptions['endpoints'], tls: EtcdSourceOptions['tls'], tuning: EtcdSourceOptions['tuning'] = {}): EtcdSource {
		return new EtcdSource({
			name: 'etcd',
			endpoints,
			prefix: '/services/',
			layout: auto,
			tls,
			env: systemEnv,
			logger: silentLogger(),
			tuning,
		});
	}

	async #request(method: string, path: string, body?: string, token?: string): Promise<{ status: number; text: string }> {
		if (this.#tls === undefined) {
			const headers = token === undefined ? {} : { authorization: token };
			const answer = await fetch(`${this.url}${path}`, { method, headers, ...(body === undefined ? {} : { body }) });
			return { status: answer.status, text: await answer.text() };
		}
		const [ca, cert, key] = [this.#tls.ca, this.#tls.cert, this.#tls.key].map((file) => readFileSync(file));
		return new Promise((resolve, reject) => {
			const request = https.request(`${this.url}${path}`, { method, ca, cert, key, agent: false, timeout: 10_000 }, (answer) => {
				let text = '';
				answer.on('data', (chunk: Buffer) => {
					text += chunk.toString();
				});
				answer.on('error', reject);
				answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text }));
			});
			request.on('timeout', () => request.destroy(new Error(`etcd ${path}: no answer`)));
			request.on('error', reject);
			request.end(body);
		});
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
