// SPDX-License-Identifier: Apache-2.0
// The whole path for end-to-end tests: the demo's network with a real daemon on a services file that the test writes,
// backends set up by `xdpilot backend`, and the demo's client as load. Everything goes at the end of the test.
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { stringify } from 'yaml';
import { BackendProcess } from '../../src/demo/backend-process.ts';
import { DaemonProcess, xdpilotArgv } from '../../src/demo/daemon-process.ts';
import { LoadProcess } from '../../src/demo/load-process.ts';
import { passProgramPinner } from '../../src/demo/pass-program.ts';
import { Topology, type TopologyNode } from '../../src/demo/topology.ts';
import type { LoadPlan, Target } from '../../src/demo/traffic/exchange.ts';
import { systemEnv } from '../../src/env.ts';
import type { Address } from '../../src/model/address.ts';
import { loadNative } from '../../src/native/binding.ts';
import type { StatusReport } from '../../src/observe/report.ts';
import { whyNoBpf } from './privileged.ts';
import { whyNoNamespace } from './veth.ts';

export interface FabricOptions {
	readonly label: string;
	readonly backends: number;
	/** What clients connect to; every backend serves all of it. */
	readonly targets: readonly Target[];
	/** `pools` and `vips` of the configuration; pools take service `web` (IPv4) or `web6` from source `file`. */
	readonly config: object;
	/** Further keys of `datapath`. */
	readonly datapath?: object;
}

export class Fabric {
	readonly topology: Topology;
	readonly backends: BackendProcess[] = [];
	readonly daemon: DaemonProcess;
	readonly configPath: string;
	readonly #folder: string;
	readonly #targets: readonly Target[];

	private constructor(opts: FabricOptions, topology: Topology, folder: string) {
		this.topology = topology;
		this.#folder = folder;
		this.#targets = opts.targets;
		this.configPath = join(folder, 'xdpilot.yaml');
		const socket = join(folder, 'control.sock');
		writeFileSync(
			this.configPath,
			stringify({
				datapath: { interface: 'eth0', mode: 'native', expected_flows: 20_000, pin_path: `${topology.pinPath}/lb`, ...opts.datapath },
				control: { socket },
				sources: { file: { kind: 'file', path: 'services.yaml' } },
				allowed_backends: ['10.77.0.0/16', 'fd77::/16'],
				...opts.config,
			}),
		);
		this.daemon = new DaemonProcess(systemEnv, topology, this.configPath, socket);
	}

	/** Network and backends; neither daemon nor load runs yet. */
	static async create(t: Pick<TestContext, 'after'>, opts: FabricOptions): Promise<Fabric> {
		const folder = mkdtempSync(join(tmpdir(), `xdpilot-e2e-${opts.label}-`));
		t.after(() => rmSync(folder, { recursive: true, force: true }));
		const logFolder = join(folder, 'logs');
		mkdirSync(logFolder);
		const topology = await Topology.create(systemEnv, {
			prefix: `xdpilot-e2e-${opts.label}`,
			backends: opts.backends,
			pinPassProgram: passProgramPinner(loadNative()),
			vips: vipsOf(opts.targets),
			logFolder,
		});
		t.after(() => topology.remove());
		const fabric = new Fabric(opts, topology, folder);
		fabric.backends.push(...(await Promise.all(topology.backends.map((node) => fabric.#startBackend(node)))));
		return fabric;
	}

	/** Makes these backends the registry's, all at once. */
	register(backends: readonly BackendProcess[]): void {
		const services = {
			web: backends.map((b) => ({ address: b.node.ipv4 })),
			web6: backends.map((b) => ({ address: b.node.ipv6 })),
		};
		const path = join(this.#folder, 'services.yaml');
		writeFileSync(`${path}.new`, stringify({ services }));
		renameSync(`${path}.new`, path);
	}

	/** The client's process with its record; no traffic yet. */
	startLoad(): Promise<LoadProcess> {
		return LoadProcess.start(systemEnv, this.topology);
	}

	loadPlan(load: Omit<LoadPlan, 'targets' | 'sources'>): LoadPlan {
		const { client } = this.topology;
		return { ...load, targets: this.#targets, sources: [client.ipv4, client.ipv6] };
	}

	backend(name: string): BackendProcess {
		const found = this.backends.find((b) => b.name === name);
		if (found === undefined) throw new TypeError(`there is no backend ${name}`);
		return found;
	}

	/** A counter of the kernel in a node, e.g. `TcpRetransSegs`, `IcmpMsgInType3` or `Icmp6InPktTooBigs`. */
	async counter(node: TopologyNode, name: string): Promise<number> {
		const text = await this.topology.run(node, ['cat', '/proc/net/snmp', '/proc/net/netstat', '/proc/net/snmp6']);
		return kernelCounters(text).get(name) ?? 0;
	}

	async #startBackend(node: TopologyNode): Promise<BackendProcess> {
		const state = join(this.#folder, `backend-${node.name}.json`);
		const pins = `${this.topology.pinPath}/${node.name}`;
		const vips = vipsOf(this.#targets).join(',');
		const argv = xdpilotArgv('backend', '-i', 'eth0', '--vip', vips, '--once', '--state', state, '--pin-path', pins);
		await this.topology.run(node, argv, 60_000);
		return BackendProcess.start(systemEnv, this.topology, node, this.#targets);
	}
}

/** Why no end-to-end test can run here; undefined where it can. */
export function whyNoFabric(): string | undefined {
	return whyNoBpf() ?? whyNoNamespace();
}

/** Every pool has a ring with this many backends in it. */
export function hasRings(status: StatusReport, backends: number): boolean {
	const inRing = (p: StatusReport['pools'][number]) => p.backends.filter((b) => b.state === 'active' && b.slots !== 0).length;
	return status.pools.every((p) => p.ring !== null && inRing(p) === backends);
}

/** `[a]:1>[b]:2/tcp` as traffic-icmp.py takes it. */
export function icmpFlow(flow: string): string {
	const [, client, clientPort, vip, vipPort, protocol] = /^\[?([^\]>]+?)\]?:(\d+)>\[?([^\]>]+?)\]?:(\d+)\/(\w+)$/.exec(flow) ?? [];
	return [client, clientPort, vip, vipPort, protocol].join(',');
}

function vipsOf(targets: readonly Target[]): Address[] {
	return [...new Set(targets.map((t) => t.address))];
}

/** Pairs of lines `Tcp: name name`, `Tcp: 1 2`, and lines `Ip6InReceives 1`. */
function kernelCounters(text: string): Map<string, number> {
	const counters = new Map<string, number>();
	const names = new Map<string, string[]>();
	for (const line of text.split('\n')) {
		const [first = '', ...rest] = line.trim().split(/\s+/);
		if (!first.endsWith(':')) counters.set(first, Number(rest[0]));
		else if (!names.has(first)) names.set(first, rest);
		else {
			for (const [i, name] of (names.get(first) ?? []).entries()) counters.set(first.slice(0, -1) + name, Number(rest[i]));
			names.delete(first);
		}
	}
	return counters;
}
