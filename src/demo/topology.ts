// SPDX-License-Identifier: Apache-2.0
// A complete network in namespaces: client - router - load balancer, and router - each backend, with direct server
// return. IPv4 and IPv6. Names carry the maker's pid, so that several can exist at once and leftovers of a dead maker
// can be told; remove() takes everything away, whatever state it is in. Nothing outside these namespaces is touched.
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import type { Env } from '../env.ts';
import { XdpilotError } from '../errors.ts';
import { type Argv, runCommand } from '../host/command.ts';
import { BPFFS_PATH } from '../host/preflight.ts';
import { type Address, address, familyOf } from '../model/address.ts';
import { NetnsProcess, type SpawnOptions } from './netns-process.ts';

export interface TopologyOptions {
	/** First part of every name, e.g. `xdpilot-demo`. */
	readonly prefix: string;
	readonly backends: number;
	/** Pins an XDP program that passes everything at this path in bpffs. */
	readonly pinPassProgram: (path: string) => void;
	/** Addresses that the router sends to the load balancer. */
	readonly vips: readonly Address[];
	/** Folder for the output of what runs inside. */
	readonly logFolder: string;
	/** Processes live on when the maker dies. */
	readonly outlive?: boolean;
	/** MTU of every link but the client's, bytes; 1500 by default. */
	readonly fabricMtu?: number;
}

/** A host with one interface. */
export interface TopologyNode {
	readonly name: string;
	/** Path for setns(2). */
	readonly netns: string;
	readonly interface: 'eth0';
	readonly ipv4: Address;
	readonly ipv6: Address;
	/** The router's addresses on this link. */
	readonly gateway4: Address;
	readonly gateway6: Address;
	/** The router's interface on this link. */
	readonly routerInterface: string;
}

export const NETNS_DIR = '/run/netns';
const CLIENT_NET = 1;
const LB_NET = 2;
const FIRST_BACKEND_NET = 11;
const CLIENT_MTU = 1500;
const STOP_GRACE_MS = 2000;

export class Topology {
	readonly client: TopologyNode;
	readonly lb: TopologyNode;
	readonly backends: TopologyNode[] = [];
	/** For pins of whatever runs inside; removed with the rest. */
	readonly pinPath: string;
	readonly routerNetns: string;
	readonly #opts: TopologyOptions;
	readonly #env: Env;
	readonly #id: string;
	readonly #processes: NetnsProcess[] = [];
	/** Work under way that makes things which remove() must find. */
	readonly #working = new Set<Promise<void>>();
	/** Namespaces of backends that were added, or began to be. */
	readonly #late: string[] = [];
	#isClosed = false;

	private constructor(env: Env, opts: TopologyOptions) {
		this.#env = env;
		this.#opts = opts;
		this.#id = topologyId(opts.prefix);
		this.pinPath = `${BPFFS_PATH}/${this.#id}`;
		this.routerNetns = this.#netns('router');
		this.client = this.#node('client', CLIENT_NET);
		this.lb = this.#node('lb', LB_NET);
		for (let i = 0; i < opts.backends; i++) this.backends.push(this.#node(`b${i + 1}`, FIRST_BACKEND_NET + i));
	}

	/** Builds it; on failure everything that was made is removed first. @throws XdpilotError E_HOST */
	static async create(env: Env, opts: TopologyOptions): Promise<Topology> {
		const topology = new Topology(env, opts);
		process.on('exit', topology.#onExit);
		try {
			await topology.#build();
			return topology;
		} catch (e) {
			await topology.remove();
			throw e;
		}
	}

	/** One more backend, connected and ready; remove() waits for it. */
	addBackend(): Promise<TopologyNode> {
		this.#refuseIfClosed();
		return this.#tracked(this.#addBackend());
	}

	/** Starts a program in a node; it is ended by remove() at the latest. @throws XdpilotError E_HOST after abort() */
	spawn(node: TopologyNode, argv: Argv, opts: Pick<SpawnOptions, 'name' | 'env' | 'ipc'>): NetnsProcess {
		this.#refuseIfClosed();
		const logFile = `${this.#opts.logFolder}/${opts.name.replace(/\W+/g, '-')}.log`;
		const child = new NetnsProcess(argv, node.netns, { ...opts, logFile, outlive: this.#opts.outlive ?? false });
		this.#processes.push(child);
		return child;
	}

	/** Ends all processes at once and starts none from now on, so that whoever waits for one stops waiting. */
	abort(): void {
		this.#isClosed = true;
		for (const p of this.#processes) p.kill('SIGKILL');
	}

	/** Lets this process exit while the network stays. */
	release(): void {
		process.off('exit', this.#onExit);
		for (const p of this.#processes) p.release();
	}

	/** Runs a program in a node to its end; remove() waits for it. @throws XdpilotError E_HOST */
	run(node: TopologyNode, argv: Argv, deadlineMs = 10_000): Promise<string> {
		this.#refuseIfClosed();
		return this.#tracked(runCommand(argv, { netns: node.netns, deadlineMs }));
	}

	/** The same in the router. @throws XdpilotError E_HOST */
	runRouter(argv: Argv): Promise<string> {
		return runCommand(argv, { netns: this.routerNetns });
	}

	/** Ends all processes, deletes namespaces and pins. Never throws; harmless when repeated. */
	async remove(): Promise<void> {
		this.#isClosed = true;
		await Promise.all([...this.#working, ...this.#processes.map((p) => p.stop(this.#env, STOP_GRACE_MS))]);
		await removeNetns(this.#namespaces());
		await rm(this.pinPath, { recursive: true, force: true });
		process.off('exit', this.#onExit);
	}

	/** Commands that let a person look around. */
	lookAround(): string[] {
		return [this.client, this.lb, ...this.backends].map((n) => `nsenter --net=${n.netns} bash`);
	}

	/** The process ends without remove(): a reader that closed the pipe, a bug. Nothing asynchronous runs any more. */
	readonly #onExit = () => {
		this.abort();
		for (const path of this.#namespaces()) if (existsSync(path)) spawnSync('ip', ['netns', 'delete', nameOf(path)], { timeout: 5000 });
		rmSync(this.pinPath, { recursive: true, force: true });
	};

	#namespaces(): string[] {
		return [...[this.client, this.lb, ...this.backends].map((n) => n.netns), ...this.#late, this.routerNetns];
	}

	async #addBackend(): Promise<TopologyNode> {
		const n = this.backends.length;
		const node = this.#node(`b${n + 1}`, FIRST_BACKEND_NET + n);
		this.#late.push(node.netns);
		await makeNetns([node.netns]);
		await this.#connect([node]);
		this.backends.push(node);
		return node;
	}

	#tracked<T>(work: Promise<T>): Promise<T> {
		const ended = work.then(
			() => {},
			() => {},
		);
		this.#working.add(ended);
		void ended.then(() => this.#working.delete(ended));
		return work;
	}

	#refuseIfClosed(): void {
		if (this.#isClosed) throw new XdpilotError('E_HOST', `the network ${this.#id} is being removed`);
	}

	#netns(name: string): string {
		return `${NETNS_DIR}/${this.#id}-${name}`;
	}

	#node(name: string, net: number): TopologyNode {
		return {
			name,
			netns: this.#netns(name),
			interface: 'eth0',
			ipv4: address(`10.77.${net}.2`),
			ipv6: address(`fd77:0:0:${net}::2`),
			gateway4: address(`10.77.${net}.1`),
			gateway6: address(`fd77:0:0:${net}::1`),
			routerInterface: `rt-${name}`,
		};
	}

	async #build(): Promise<void> {
		const nodes = [this.client, this.lb, ...this.backends];
		await makeNetns([this.routerNetns, ...nodes.map((n) => n.netns)]);
		await writeSysctls(this.routerNetns, '1', ['net/ipv4/ip_forward', 'net/ipv6/conf/all/forwarding']);
		// Answers come straight from the backends with the vip as their source: no reverse path leads there.
		await writeSysctls(this.routerNetns, '0', ['net/ipv4/conf/all/rp_filter', 'net/ipv4/conf/default/rp_filter']);
		await this.#connect(nodes);
		await this.#prepareBalancerLink();
	}

	async #connect(nodes: readonly TopologyNode[]): Promise<void> {
		const mtu = (n: TopologyNode) => (n === this.client ? CLIENT_MTU : (this.#opts.fabricMtu ?? CLIENT_MTU));
		const router = nameOf(this.routerNetns);
		// Two queues: XDP on a veth wants as many receive queues as the other end has transmit queues.
		const queues = 'numtxqueues 2 numrxqueues 2';
		await ip(
			nodes.map(
				(n) =>
					`link add name eth0 netns ${nameOf(n.netns)} mtu ${mtu(n)} ${queues} type veth peer name ${n.routerInterface} netns ${router} mtu ${mtu(n)} ${queues}`,
			),
		);
		await ip(
			nodes.flatMap((n) => [
				`address add ${n.gateway4}/24 dev ${n.routerInterface}`,
				`address add ${n.gateway6}/64 dev ${n.routerInterface} nodad`,
				`link set ${n.routerInterface} up`,
			]),
			this.routerNetns,
		);
		for (const n of nodes) {
			await ip(
				[
					'link set lo up',
					`address add ${n.ipv4}/24 dev eth0`,
					`address add ${n.ipv6}/64 dev eth0 nodad`,
					'link set eth0 up',
					`route add default via ${n.gateway4}`,
					`route add ::/0 via ${n.gateway6}`,
				],
				n.netns,
			);
		}
	}

	/** A frame sent back out of a veth reaches its other end only if that has an XDP program, and only with whole checksums. */
	async #prepareBalancerLink(): Promise<void> {
		const peer = this.lb.routerInterface;
		await mkdir(this.pinPath, { mode: 0o700 });
		this.#opts.pinPassProgram(`${this.pinPath}/pass`);
		await runCommand(['ip', 'link', 'set', 'dev', peer, 'xdpdrv', 'pinned', `${this.pinPath}/pass`], { netns: this.routerNetns });
		await runCommand(['ethtool', '-K', peer, 'tx', 'off'], { netns: this.routerNetns });
		await ip(
			this.#opts.vips.map((v) => (familyOf(v) === 4 ? `route add ${v}/32 via ${this.lb.ipv4}` : `route add ${v}/128 via ${this.lb.ipv6}`)),
			this.routerNetns,
		);
	}
}

/** What all names begin with that this process makes. */
export function topologyId(prefix: string): string {
	return `${prefix}-${process.pid}`;
}

/** Writes one value to several files below /proc/sys, as seen from a network namespace. @throws XdpilotError E_HOST */
export async function writeSysctls(netns: string, value: string, names: readonly string[]): Promise<void> {
	await runCommand(['tee', ...names.map((n) => `/proc/sys/${n}`)], { netns, input: value });
}

async function makeNetns(paths: readonly string[]): Promise<void> {
	await ip(paths.map((p) => `netns add ${nameOf(p)}`));
	// Addresses must be usable at once, link-local ones included.
	for (const p of paths) await writeSysctls(p, '0', ['net/ipv6/conf/all/accept_dad', 'net/ipv6/conf/default/accept_dad']);
}

export async function removeNetns(paths: readonly string[]): Promise<void> {
	const existing = paths.filter((p) => existsSync(p));
	// One at a time: a batch would stop at the first that fails.
	for (const p of existing) await runCommand(['ip', 'netns', 'delete', nameOf(p)]).catch(() => '');
}

function nameOf(netns: string): string {
	return netns.slice(NETNS_DIR.length + 1);
}

async function ip(lines: readonly string[], netns?: string): Promise<void> {
	if (lines.length > 0) await runCommand(['ip', '-batch', '-'], { netns, input: `${lines.join('\n')}\n`, deadlineMs: 20_000 });
}
