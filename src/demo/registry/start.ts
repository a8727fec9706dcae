// SPDX-License-Identifier: Apache-2.0
// Starts the registry that was asked for. etcd and Consul run on the balancer's host, where backends reach them through
// the same router as everything else, and backends keep themselves in them.
import { mkdirSync } from 'node:fs';
import type { Env } from '../../env.ts';
import { XdpilotError } from '../../errors.ts';
import type { BackendProcess } from '../backend-process.ts';
import type { NetnsProcess } from '../netns-process.ts';
import type { Topology } from '../topology.ts';
import type { Announcement } from './announcement.ts';
import { FileRegistry } from './file-registry.ts';
import type { Registry, RegistryKind, RegistryPlan } from './registry.ts';

/** Long enough that a machine which stands still for two seconds loses no backend, short enough to watch one die. */
const TTL_SECONDS = 3;
const ETCD_PREFIX = '/services/';
const ETCD_PORT = 2379;
const CONSUL_PORT = 8500;

export function startRegistry(kind: RegistryKind, env: Env, topology: Topology, plan: RegistryPlan): Registry {
	if (kind === 'file') return new FileRegistry(env, plan);
	if (plan.program === undefined) throw new XdpilotError('E_DEMO', `there is no ${kind} to start`);
	const folder = `${plan.folder}/${kind}`;
	mkdirSync(folder, { recursive: true });
	const host = topology.lb.ipv4;
	const port = kind === 'etcd' ? ETCD_PORT : CONSUL_PORT;
	const args = kind === 'etcd' ? etcdArguments(host, folder) : consulArguments(host);
	const server = topology.spawn(topology.lb, [plan.program, ...args], { name: kind, env: { GOMAXPROCS: '1' } });
	return new ServerRegistry(kind, `http://${host}:${port}`, server, plan);
}

function etcdArguments(host: string, folder: string): string[] {
	const client = `http://${host}:${ETCD_PORT}`;
	return [
		...['--name', 'demo', '--data-dir', folder, '--log-level', 'error'],
		...['--listen-client-urls', client, '--advertise-client-urls', client],
		...['--listen-peer-urls', 'http://127.0.0.1:2380', '--initial-advertise-peer-urls', 'http://127.0.0.1:2380'],
		...['--initial-cluster', 'demo=http://127.0.0.1:2380'],
	];
}

function consulArguments(host: string): string[] {
	return ['agent', '-dev', '-node', 'demo', '-bind', '127.0.0.1', '-client', host, '-log-level', 'err'];
}

/** A registry in which backends keep themselves. */
class ServerRegistry implements Registry {
	readonly kind: 'etcd' | 'consul';
	readonly sourceConfig: Readonly<Record<string, unknown>>;
	readonly #url: string;
	readonly #server: NetnsProcess;
	readonly #plan: RegistryPlan;

	constructor(kind: 'etcd' | 'consul', url: string, server: NetnsProcess, plan: RegistryPlan) {
		this.kind = kind;
		this.#url = url;
		this.#server = server;
		this.#plan = plan;
		this.sourceConfig = kind === 'etcd' ? { kind, endpoints: [url], prefix: ETCD_PREFIX } : { kind, address: url };
	}

	join(backend: BackendProcess): Promise<number> {
		const announcement: Announcement = {
			kind: this.kind,
			url: this.#url,
			prefix: ETCD_PREFIX,
			ttlSeconds: TTL_SECONDS,
			entries: this.#plan.entriesOf(backend),
		};
		return backend.announce(announcement);
	}

	leave(backend: BackendProcess): Promise<number> {
		return backend.withdraw();
	}

	died(): Promise<void> {
		return Promise.resolve();
	}

	check(): void {
		if (this.#server.ending !== undefined) throw this.#server.failure();
	}
}
