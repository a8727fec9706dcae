// SPDX-License-Identifier: Apache-2.0
// A Consul, a proxy in front of it that knows HTTP, and sources behind that.
import { systemEnv } from '../../src/env.ts';
import { silentLogger } from '../../src/log.ts';
import { ConsulSource, type ConsulSourceOptions } from '../../src/sources/consul/consul-source.ts';
import type { ServiceQuery } from '../../src/sources/source.ts';
import { ConsulServer, type ConsulServerOptions } from './consul-server.ts';
import { HttpFaultProxy } from './fault-proxy-http.ts';
import { SnapshotLog } from './snapshot-log.ts';

export const QUICK_BACKOFF = { minMs: 20, maxMs: 300 };

export class ConsulHarness {
	readonly consul: ConsulServer;
	readonly proxy: HttpFaultProxy;
	readonly #sources: ConsulSource[] = [];

	private constructor(consul: ConsulServer, proxy: HttpFaultProxy) {
		this.consul = consul;
		this.proxy = proxy;
	}

	static async start(options: ConsulServerOptions = {}): Promise<ConsulHarness> {
		const consul = await ConsulServer.start(options);
		return new ConsulHarness(consul, await HttpFaultProxy.start(consul.port));
	}

	source(over: Partial<ConsulSourceOptions> = {}): ConsulSource {
		const { tuning, ...rest } = over;
		const source = new ConsulSource({
			name: 'consul',
			address: { kind: 'tcp', secure: false, host: '127.0.0.1', port: this.proxy.port },
			env: systemEnv,
			logger: silentLogger(),
			tuning: { backoff: QUICK_BACKOFF, ...tuning },
			...rest,
		});
		this.#sources.push(source);
		return source;
	}

	/** Watches a service, `web` unless said otherwise. */
	watch(over: Partial<ConsulSourceOptions> = {}, query: Partial<ServiceQuery> = {}): { source: ConsulSource; log: SnapshotLog } {
		const source = this.source(over);
		const log = new SnapshotLog();
		source.watch({ service: 'web', tags: [], ...query }, log.listener);
		return { source, log };
	}

	/** The server itself, without a proxy that would keep connections open over its restart. */
	get directly(): Pick<ConsulSourceOptions, 'address'> {
		return { address: { kind: 'tcp', secure: false, host: '127.0.0.1', port: this.consul.port } };
	}

	/** Registers `web` instances 10.0.0.1 to 10.0.0.n. */
	async registerWeb(n: number): Promise<void> {
		for (let i = 1; i <= n; i++) await this.consul.register({ id: `web${i}`, service: 'web', address: `10.0.0.${i}`, port: 80 });
	}

	async dispose(): Promise<void> {
		await Promise.all(this.#sources.map((s) => s.close()));
		await this.proxy.dispose();
		await this.consul.dispose();
	}
}

export async function withConsul(body: (h: ConsulHarness) => Promise<void>, options: ConsulServerOptions = {}): Promise<void> {
	const harness = await ConsulHarness.start(options);
	try {
		await body(harness);
	} finally {
		await harness.dispose();
	}
}
