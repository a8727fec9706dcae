// SPDX-License-Identifier: Apache-2.0
// Everything that a demo runs, wired together: network, registry, backends set up by `xdpilot backend`, the daemon and
// the client. One object to make, to ask and to take away.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { Env } from '../env.ts';
import { address } from '../model/address.ts';
import type { NativeAddon } from '../native/binding.ts';
import type { BackendReport, PoolReport, StatusReport } from '../observe/report.ts';
import { BackendProcess } from './backend-process.ts';
import { DaemonProcess, xdpilotArgv } from './daemon-process.ts';
import { LoadProcess } from './load-process.ts';
import { passProgramPinner } from './pass-program.ts';
import type { Entry } from './registry/announcement.ts';
import type { Registry, RegistryKind } from './registry/registry.ts';
import { startRegistry } from './registry/start.ts';
import { Topology, type TopologyNode, topologyId } from './topology.ts';
import type { LoadPlan, Target } from './traffic/exchange.ts';
import type { BackendRecord } from './traffic/tally.ts';

export const DEMO_PREFIX = 'xdpilot-demo';
export const VIP4 = address('203.0.113.10');
export const VIP6 = address('2001:db8:113::10');
export const VIP_PORT = 80;
export const POOLS = { ipv4: 'web', ipv6: 'web6' } as const;
const BACKENDS = 3;
const CONVERGE_MS = 15_000;

export interface NetworkOptions {
	readonly env: Env;
	readonly native: NativeAddon;
	readonly registry: RegistryKind;
	/** Path of etcd or Consul; undefined for a file. */
	readonly program: string | undefined;
	/** Everything stays when this process exits. */
	readonly outlive: boolean;
}

export class DemoNetwork {
	readonly topology: Topology;
	readonly registry: Registry;
	readonly daemon: DaemonProcess;
	readonly backends: BackendProcess[] = [];
	/** Configuration, logs and data; removed with the network. */
	readonly folder: string;
	readonly socket: string;
	readonly #env: Env;
	#load: LoadProcess | undefined;

	private constructor(opts: NetworkOptions, topology: Topology, folder: string) {
		this.#env = opts.env;
		this.topology = topology;
		this.folder = folder;
		process.on('exit', this.#onExit);
		this.socket = join(folder, 'control.sock');
		this.registry = startRegistry(opts.registry, opts.env, topology, { folder, entriesOf, program: opts.program });
		const configPath = join(folder, 'xdpilot.yaml');
		writeFileSync(configPath, stringify(this.#config()));
		this.daemon = new DaemonProcess(opts.env, topology, configPath, this.socket);
	}

	/** The network with its registry; nothing runs on it yet. On failure everything is taken away again. */
	static async create(opts: NetworkOptions): Promise<DemoNetwork> {
		const folder = mkdtempSync(join(tmpdir(), `${topologyId(DEMO_PREFIX)}-`));
		const logFolder = join(folder, 'logs');
		mkdirSync(logFolder);
		let topology: Topology | undefined;
		try {
			topology = await Topology.create(opts.env, {
				prefix: DEMO_PREFIX,
				backends: BACKENDS,
				pinPassProgram: passProgramPinner(opts.native),
				vips: [VIP4, VIP6],
				logFolder,
				outlive: opts.outlive,
			});
			return new DemoNetwork(opts, topology, folder);
		} catch (e) {
			await topology?.remove();
			rmSync(folder, { recursive: true, force: true });
			throw e;
		}
	}

	get load(): LoadProcess {
		if (this.#load === undefined) throw new TypeError('the client has not been started');
		return this.#load;
	}

	/** Backends, registry entries, daemon and client; resolves when the daemon has all backends. */
	async start(): Promise<StatusReport> {
		const [load, status] = await Promise.all([
			LoadProcess.start(this.#env, this.topology),
			// It waits for its registry as any daemon does at boot.
			this.daemon.start((s) => backendsInRings(s) === BACKENDS * 2),
			...this.topology.backends.map((node) => this.#startMember(node)),
		]);
		this.#load = load;
		return status;
	}

	/** One more backend, serving but not in the registry yet. */
	async prepareBackend(): Promise<BackendProcess> {
		return this.#startBackend(await this.topology.addBackend());
	}

	/** Puts a prepared backend into the registry. Resolves with the time at which the registry had it. */
	join(backend: BackendProcess): Promise<number> {
		this.backends.push(backend);
		return this.registry.join(backend);
	}

	/**
	 * Waits until every pool has a newer ring than in `before`, with this backend in it or without. A status tells the state that
	 * is wanted at once; the ring's generation tells what packets take.
	 */
	async untilInRing(backend: BackendProcess, isIn: boolean, before: StatusReport): Promise<StatusReport> {
		const was = new Map(before.pools.map((p) => [p.name, p.ring?.generation ?? 0]));
		const isNewer = (s: StatusReport) => s.pools.every((p) => (p.ring?.generation ?? 0) > (was.get(p.name) ?? 0));
		return this.daemon.until((s) => isNewer(s) && poolsWith(s, backend).length === (isIn ? 2 : 0), CONVERGE_MS);
	}

	loadPlan(load: Pick<LoadPlan, 'newPerSecond' | 'kept' | 'datagramFlows' | 'paceMs' | 'deadlineMs'>): LoadPlan {
		const { client } = this.topology;
		return { ...load, targets: TARGETS, sources: [client.ipv4, client.ipv6] };
	}

	/** What every backend has written down so far. */
	records(death: { readonly backend: string; readonly at: number }): BackendRecord[] {
		return this.backends.map((b) => ({ name: b.name, flows: [...b.seen.values()], diedAt: b.name === death.backend ? death.at : null }));
	}

	/** @throws XdpilotError E_DEMO when something that should run has ended */
	check(): void {
		this.registry.check();
		this.daemon.check();
		this.#load?.check();
	}

	abort(): void {
		this.topology.abort();
	}

	/** Lets this process exit while everything goes on. */
	release(): void {
		process.off('exit', this.#onExit);
		for (const b of this.backends) b.stay();
		this.topology.release();
	}

	async remove(): Promise<void> {
		await this.topology.remove();
		this.#onExit();
		process.off('exit', this.#onExit);
	}

	readonly #onExit = () => rmSync(this.folder, { recursive: true, force: true });

	async #startMember(node: TopologyNode): Promise<void> {
		const backend = await this.#startBackend(node);
		this.backends.push(backend);
		this.backends.sort((a, b) => a.name.localeCompare(b.name));
		await this.registry.join(backend);
	}

	async #startBackend(node: TopologyNode): Promise<BackendProcess> {
		const state = join(this.folder, `backend-${node.name}.json`);
		const pins = `${this.topology.pinPath}/${node.name}`;
		const argv = xdpilotArgv('backend', '-i', node.interface, '--vip', `${VIP4},${VIP6}`, '--once', '--state', state, '--pin-path', pins);
		await this.topology.run(node, argv, 20_000);
		return BackendProcess.start(this.#env, this.topology, node, TARGETS);
	}

	#config(): object {
		const source = this.registry.kind;
		const pool = (service: string) => ({ from: { source, service }, drain: '2m' });
		return {
			datapath: { interface: 'eth0', mode: 'native', expected_flows: 20_000, pin_path: `${this.topology.pinPath}/lb` },
			control: { socket: this.socket },
			sources: { [source]: this.registry.sourceConfig },
			allowed_backends: ['10.77.0.0/16', 'fd77::/16'],
			pools: { [POOLS.ipv4]: pool('web'), [POOLS.ipv6]: pool('web6') },
			vips: [...vipsOf(VIP4, POOLS.ipv4), ...vipsOf(VIP6, POOLS.ipv6)],
		};
	}
}

const TARGETS: readonly Target[] = [VIP4, VIP6].map((vip) => ({ address: vip, port: VIP_PORT }));

/** The pools that have this backend in their ring. */
export function poolsWith(status: StatusReport, backend: BackendProcess): PoolReport[] {
	const own: readonly string[] = [backend.node.ipv4, backend.node.ipv6];
	return status.pools.filter((p) => p.backends.some((b) => own.includes(b.address) && isInRing(p, b)));
}

function backendsInRings(status: StatusReport): number {
	return status.pools.flatMap((p) => p.backends.filter((b) => isInRing(p, b))).length;
}

/** Slots are known only for a ring that was written; an adopted one holds what it held. */
function isInRing(pool: PoolReport, backend: BackendReport): boolean {
	return pool.ring !== null && backend.state === 'active' && backend.slots !== 0;
}

function entriesOf({ node }: BackendProcess): Entry[] {
	return [
		{ service: 'web', instance: node.name, address: node.ipv4, port: VIP_PORT },
		{ service: 'web6', instance: node.name, address: node.ipv6, port: VIP_PORT },
	];
}

function vipsOf(vip: string, pool: string): object[] {
	return (['tcp', 'udp'] as const).map((protocol) => ({ address: vip, port: VIP_PORT, protocol, pool }));
}
