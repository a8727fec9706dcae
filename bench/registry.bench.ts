// SPDX-License-Identifier: Apache-2.0
// How much of a change's way to the data plane is the registry's and the source's: from a write until the source tells
// it, in small services and in large ones, and how long a source takes to catch up after its connection was cut.
import { systemEnv } from '../src/env.ts';
import { silentLogger } from '../src/log.ts';
import { ConsulSource } from '../src/sources/consul/consul-source.ts';
import type { Source } from '../src/sources/source.ts';
import { ConsulServer, skipWithoutConsul } from '../test/support/consul-server.ts';
import { EtcdServer, skipWithoutEtcd } from '../test/support/etcd-server.ts';
import { FaultProxy } from '../test/support/fault-proxy.ts';
import { SnapshotLog } from '../test/support/snapshot-log.ts';
import { type Bench, type BenchRow, type BenchSection, runAlone, stats } from './bench.ts';

const SAMPLES = 200;
const SAMPLES_LARGE = 30;
const CUTS = 30;
/** Instances of a large service. */
const LARGE = 2000;
/** Longer than Consul's least interval between queries, and never in step with it. */
const PAUSE_MS = [90, 150] as const;

interface Registry {
	readonly name: string;
	/** Of the source's connections. */
	readonly proxy: FaultProxy;
	source(): Source;
	/** Adds many instances, quickly. */
	fill(service: string, count: number): Promise<void>;
	/** Sets the weight of instance 0. */
	write(service: string, weight: number): Promise<void>;
	dispose(): Promise<void>;
}

const addressOf = (n: number) => `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`;

async function etcdRegistry(): Promise<Registry> {
	const server = await EtcdServer.start();
	const proxy = await FaultProxy.start(server.port);
	const put = (service: string, n: number, weight: number) =>
		server.put(`/services/${service}/${n}`, JSON.stringify({ address: addressOf(n), port: 80, weight }));
	return {
		name: 'etcd',
		proxy,
		source: () =>
			server.sourceOn([{ url: `http://127.0.0.1:${proxy.port}`, secure: false, host: '127.0.0.1', port: proxy.port }], undefined),
		async fill(service, count) {
			for (let n = 0; n < count; n++) await put(service, n, 1);
		},
		async write(service, weight) {
			await put(service, 0, weight);
		},
		async dispose() {
			await proxy.dispose();
			await server.dispose();
		},
	};
}

async function consulRegistry(): Promise<Registry> {
	const server = await ConsulServer.start();
	const proxy = await FaultProxy.start(server.port);
	const register = (service: string, n: number, weight: number) =>
		server.register({ id: `${service}-${n}`, service, address: addressOf(n), port: 80, weights: { Passing: weight, Warning: 1 } });
	return {
		name: 'Consul',
		proxy,
		source: () => {
			const address = { kind: 'tcp', secure: false, host: '127.0.0.1', port: proxy.port } as const;
			return new ConsulSource({ name: 'consul', address, env: systemEnv, logger: silentLogger() });
		},
		async fill(service, count) {
			for (let n = 0; n < count; n++) await register(service, n, 1);
		},
		write: (service, weight) => register(service, 0, weight),
		async dispose() {
			await proxy.dispose();
			await server.dispose();
		},
	};
}

const pause = () => new Promise<void>((resolve) => setTimeout(resolve, PAUSE_MS[0] + Math.random() * (PAUSE_MS[1] - PAUSE_MS[0])));

/** Milliseconds from before each write until the source has told it. */
async function tellTimes(registry: Registry, service: string, log: SnapshotLog, samples: number): Promise<number[]> {
	const times: number[] = [];
	for (let i = 0; i < samples; i++) {
		await pause();
		const weight = 2 + (i % 60_000);
		const told = log.next((s) => s.instances.some((x) => x.weight === weight));
		const start = performance.now();
		await registry.write(service, weight);
		times.push((await told) - start);
	}
	return times;
}

/** Milliseconds from a cut until what was written meanwhile is told. */
async function catchUpTimes(registry: Registry, service: string, log: SnapshotLog): Promise<number[]> {
	const times: number[] = [];
	for (let i = 0; i < CUTS; i++) {
		await pause();
		const weight = 61_000 + i;
		const told = log.next((s) => s.instances.some((x) => x.weight === weight));
		const start = performance.now();
		registry.proxy.cutAll();
		await registry.write(service, weight);
		times.push((await told) - start);
	}
	return times;
}

async function measure(open: () => Promise<Registry>, progress: (line: string) => void): Promise<BenchRow[]> {
	const registry = await open();
	const source = registry.source();
	const { name } = registry;
	const row = (what: string, samples: readonly number[]): BenchRow => ({
		what: `${name}, ${what}`,
		unit: 'ms',
		digits: 1,
		...stats(samples),
	});
	try {
		const rows: BenchRow[] = [];
		for (const [service, size, samples] of [
			['small', 3, SAMPLES],
			['large', LARGE, SAMPLES_LARGE],
		] as const) {
			await registry.fill(service, size);
			const log = new SnapshotLog();
			const watch = source.watch({ service, tags: [] }, log.listener);
			await log.seen('all instances', (s) => s.instances.length === size);
			rows.push(row(`a change in a service of ${size}`, await tellTimes(registry, service, log, samples)));
			rows.push(row(`a change in a service of ${size} while its connection is cut`, await catchUpTimes(registry, service, log)));
			await watch.close();
			progress(`${name}: ${size} instances`);
		}
		return rows;
	} finally {
		await source.close();
		await registry.dispose();
	}
}

export const bench: Bench = {
	name: 'registry',
	async run(progress): Promise<BenchSection> {
		const missing = skipWithoutEtcd || skipWithoutConsul;
		if (missing !== false) throw new Error(missing);
		const rows = [...(await measure(etcdRegistry, progress)), ...(await measure(consulRegistry, progress))];
		return {
			title: 'From a registry write until the source tells it',
			method: `A real registry on this machine, reached through a TCP proxy that can cut. The clock starts before the write is sent and
stops when the source calls its listener: the registry's own work, its answer, reading it and comparing it are in it, guard
and data plane are not. Consul sends the whole service with every change. A cut ends the connection just before the write;
back-off (0 to 100 ms at first), a new connection and a complete list are in that time.`,
			rows,
		};
	},
};

await runAlone(bench, import.meta);
