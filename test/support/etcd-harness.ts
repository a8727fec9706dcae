// SPDX-License-Identifier: Apache-2.0
// An etcd, a proxy in front of it, a source behind that, and the one question that matters: does the source end up
// with what the registry has?
import { systemEnv } from '../../src/env.ts';
import { silentLogger } from '../../src/log.ts';
import { EtcdSource, type EtcdSourceOptions } from '../../src/sources/etcd/etcd-source.ts';
import { auto } from '../../src/sources/etcd/layouts/auto.ts';
import { EtcdServer } from './etcd-server.ts';
import { FaultProxy } from './fault-proxy.ts';
import { until } from './server-process.ts';
import { SnapshotLog } from './snapshot-log.ts';

export const PREFIX = '/services/';
export const SERVICE = `${PREFIX}web/`;
/** Quick enough for a test, slow enough to be the same code path. */
export const QUICK = {
	backoff: { minMs: 20, maxMs: 300 },
	deadlineMs: 3000,
	keepalive: { everyMs: 5000, timeoutMs: 1000 },
};

export class EtcdHarness {
	readonly etcd: EtcdServer;
	readonly proxy: FaultProxy;
	readonly #sources: EtcdSource[] = [];

	private constructor(etcd: EtcdServer, proxy: FaultProxy) {
		this.etcd = etcd;
		this.proxy = proxy;
	}

	static async start(etcdArgs: readonly string[] = []): Promise<EtcdHarness> {
		const etcd = await EtcdServer.start(etcdArgs);
		return new EtcdHarness(etcd, await FaultProxy.start(etcd.port));
	}

	/** A source that reaches etcd through the proxy only. */
	source(over: Partial<EtcdSourceOptions> = {}): EtcdSource {
		const { port } = this.proxy;
		const endpoints = [{ url: `http://127.0.0.1:${port}`, secure: false, host: '127.0.0.1', port }];
		const source = new EtcdSource({
			name: 'etcd',
			endpoints,
			prefix: PREFIX,
			layout: auto,
			env: systemEnv,
			logger: silentLogger(),
			tuning: QUICK,
			...over,
		});
		this.#sources.push(source);
		return source;
	}

	/** Watches the service `web`. */
	watch(over: Partial<EtcdSourceOptions> = {}): { source: EtcdSource; log: SnapshotLog } {
		const source = this.source(over);
		const log = new SnapshotLog();
		source.watch({ service: 'web', tags: [] }, log.listener);
		return { source, log };
	}

	/** Writes many entries, some at a time; `pad` bytes each. */
	async putMany(from: number, to: number, pad = 0): Promise<void> {
		const padding = 'x'.repeat(pad);
		for (let i = from; i < to; i += 100) {
			const batch = Array.from({ length: Math.min(100, to - i) }, (_, k) => i + k);
			await this.#transaction(batch.map((n) => [entryKey(n), JSON.stringify({ address: entryAddress(n), port: 80, padding })]));
		}
	}

	/** Waits until the source lists exactly what etcd has, and returns how many that is. */
	async converged(log: SnapshotLog, ms = 30_000): Promise<number> {
		const wanted = await this.etcd.keys(SERVICE);
		const text = wanted.join();
		await until(`${wanted.length} entries are listed`, () => (log.last?.instances ?? []).map((i) => i.id).join() === text, ms).catch(
			(e) => {
				throw new Error(`${e.message}; listed are ${log.last?.instances.length}`);
			},
		);
		return wanted.length;
	}

	async dispose(): Promise<void> {
		await Promise.all(this.#sources.map((s) => s.close()));
		await this.proxy.dispose();
		await this.etcd.dispose();
	}

	/** One revision for all of them, so that thousands of writes do not take a minute. */
	async #transaction(entries: readonly (readonly [string, string])[]): Promise<void> {
		const base64 = (text: string) => Buffer.from(text).toString('base64');
		await this.etcd.call('kv/txn', {
			success: entries.map(([key, value]) => ({ request_put: { key: base64(key), value: base64(value) } })),
		});
	}
}

export function entryKey(n: number): string {
	return `${SERVICE}${String(n).padStart(6, '0')}`;
}

export function entryAddress(n: number): string {
	return `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`;
}

/** Registers a test with a harness of its own. */
export async function withHarness(body: (h: EtcdHarness) => Promise<void>, etcdArgs: readonly string[] = []): Promise<void> {
	const harness = await EtcdHarness.start(etcdArgs);
	try {
		await body(harness);
	} finally {
		await harness.dispose();
	}
}
