// SPDX-License-Identifier: Apache-2.0
// A real Consul for tests, one server that is its own client agent. Written to by plain HTTP, since the client
// package drops fields (weights) and is what is tested.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { findServer, supplyHint } from '../../scripts/registry-servers.mjs';
import { freePorts, ServerProcess } from './server-process.ts';

const binary = findServer('consul');

/** Why tests that need Consul are skipped; false when there is one. */
export const skipWithoutConsul: string | false = binary === undefined ? supplyHint('consul') : false;

export const NODE = 'n1';
export const ROOT_TOKEN = 'root';

export interface ConsulServerOptions {
	/** Keeps its data over a restart; without it a restart is a wipe. */
	readonly isPersistent?: boolean;
	/** With access control, denying by default; the root token may do everything. */
	readonly withAcl?: boolean;
	/** Listens with TLS there too. */
	readonly httpsPort?: number;
	readonly config?: object;
}

export interface ServiceRegistration {
	readonly id: string;
	readonly service: string;
	readonly address?: string;
	readonly port?: number;
	readonly tags?: readonly string[];
	readonly weights?: { readonly Passing: number; readonly Warning: number };
	/** The status of its one check. */
	readonly status?: 'passing' | 'warning' | 'critical';
	readonly meta?: Readonly<Record<string, string>>;
}

export class ConsulServer {
	readonly port: number;
	readonly socket: string;
	readonly #process: ServerProcess;
	readonly #options: ConsulServerOptions;
	readonly #ports: readonly number[];

	private constructor(ports: readonly number[], options: ConsulServerOptions) {
		this.port = ports[0] ?? 0;
		this.#ports = ports;
		this.#options = options;
		this.#process = new ServerProcess('consul');
		this.socket = join(this.#process.folder, 'http.sock');
	}

	static async start(options: ConsulServerOptions = {}): Promise<ConsulServer> {
		const server = new ConsulServer(await freePorts(4), options);
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

	async #start(): Promise<void> {
		const [http_ = 0, serf_lan = 0, serf_wan = 0, server = 0] = this.#ports;
		const { isPersistent = false, withAcl = false, httpsPort, config = {} } = this.#options;
		const data = join(this.#process.folder, 'data');
		mkdirSync(data, { recursive: true });
		rmSync(this.socket, { force: true });
		const settings = {
			ports: { http: http_, ...(httpsPort === undefined ? {} : { https: httpsPort }), dns: -1, grpc: -1, serf_lan, serf_wan, server },
			addresses: { http: `127.0.0.1 unix://${this.socket}` },
			disable_update_check: true,
			performance: { raft_multiplier: 1 },
			...(isPersistent ? { server: true, bootstrap_expect: 1, data_dir: data } : {}),
			...(withAcl ? { acl: { enabled: true, default_policy: 'deny', tokens: { master: ROOT_TOKEN } } } : {}),
			...config,
		};
		const file = join(this.#process.folder, 'config.json');
		writeFileSync(file, JSON.stringify(settings));
		const args = [
			'agent',
			...(isPersistent ? [] : ['-dev']),
			'-bind',
			'127.0.0.1',
			'-node',
			NODE,
			'-config-file',
			file,
			'-log-level',
			'warn',
		];
		const isReady = async () => ((await this.call('GET', 'health/service/consul?passing')) as unknown[]).length > 0;
		await this.#process.start({ name: 'consul', binary: binary ?? 'consul', args, isReady });
	}

	/** Registers a service with the agent, with one check that stays as it is said. */
	async register(registration: ServiceRegistration): Promise<void> {
		const { id, service, address, port, tags, weights, meta, status = 'passing' } = registration;
		await this.call('PUT', 'agent/service/register', {
			ID: id,
			Name: service,
			...(address === undefined ? {} : { Address: address }),
			...(port === undefined ? {} : { Port: port }),
			...(tags === undefined ? {} : { Tags: tags }),
			...(meta === undefined ? {} : { Meta: meta }),
			...(weights === undefined ? {} : { Weights: weights }),
			Check: { CheckID: `check:${id}`, TTL: '1h', Status: status },
		});
	}

	async setCheck(id: string, status: 'passing' | 'warning' | 'critical', output = ''): Promise<void> {
		await this.call('PUT', `agent/check/update/check:${id}`, { Status: status, Output: output });
	}

	async deregister(id: string): Promise<void> {
		await this.call('PUT', `agent/service/deregister/${id}`);
	}

	async maintenance(id: string, isOn: boolean): Promise<void> {
		await this.call('PUT', `agent/service/maintenance/${id}?enable=${isOn}`);
	}

	/** Writes to the catalog directly, for nodes that have no agent. */
	async catalog(action: 'register' | 'deregister', body: object): Promise<void> {
		await this.call('PUT', `catalog/${action}`, body);
	}

	/** One call of the HTTP interface, as root. @throws Error when it is refused */
	call(method: string, path: string, body?: unknown, token: string = ROOT_TOKEN): Promise<unknown> {
		return new Promise((resolve, reject) => {
			const headers = this.#options.withAcl ? { 'x-consul-token': token } : {};
			const request = http.request({
				host: '127.0.0.1',
				port: this.port,
				method,
				path: `/v1/${path}`,
				headers,
				agent: false,
				timeout: 10_000,
			});
			request.on('timeout', () => request.destroy(new Error(`consul ${path}: no answer`)));
			request.on('error', reject);
			request.on('response', (response) => {
				let text = '';
				response.setEncoding('utf8');
				response.on('data', (chunk: string) => {
					text += chunk;
				});
				response.on('error', reject);
				response.on('end', () => {
					if (response.statusCode !== 200) reject(new Error(`consul ${path}: ${response.statusCode} ${text}`));
					else resolve(text === '' ? undefined : text.startsWith('{') || text.startsWith('[') ? JSON.parse(text) : text);
				});
			});
			request.end(body === undefined ? undefined : JSON.stringify(body));
		});
	}

	stop(): Promise<void> {
		return this.#process.stop('SIGKILL');
	}

	async restart(): Promise<void> {
		await this.#process.stop('SIGKILL');
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
