// SPDX-License-Identifier: Apache-2.0
// The next hop that everything leaves through: the default route of an interface and its MAC, and word of their
// changes. A load balancer forwards past the kernel's stack, so the kernel would let the neighbour entry grow old:
// each poll asks the kernel to refresh it.
import { type Env, sleep, type Timer } from '../env.ts';
import { messageOf, XdpilotError } from '../errors.ts';
import { type Address, type Family, parseAddress } from '../model/address.ts';
import { type LineReader, readLines, runCommand, runJson } from './command.ts';
import { formatMac, parseMac } from './interfaces.ts';

export interface Gateway {
	readonly interface: string;
	readonly address: Address;
	readonly family: Family;
	/** 6 bytes */
	readonly mac: Uint8Array;
}

export interface GatewayWatch {
	/** Stops; the listener is not called afterwards. */
	close(): Promise<void>;
}

export interface GatewayListener {
	changed(gateway: Gateway): void;
	/** No next hop can be found now; what was known stays valid. Called once for each new reason. */
	lost(reason: string): void;
}

/** Resolving a neighbour takes the kernel up to three solicitations, one second apart. */
const RESOLVE_MS = 4000;
const RESOLVE_STEP_MS = 50;
const SETTLE_MS = 50;
const POLL_MS = 15_000;
const RESTART_MS = 5000;

/**
 * The next hop of the default route through `interfaceName`: IPv4 if it has one, else IPv6. One MAC serves both families,
 * since it is the same router's.
 * @throws XdpilotError E_HOST when there is no default route there, or the neighbour doesn't answer
 */
export async function findGateway(env: Env, interfaceName: string, netns?: string): Promise<Gateway> {
	for (const family of [4, 6] as const) {
		const address = await defaultNextHop(interfaceName, family, netns);
		if (address !== undefined) return { interface: interfaceName, address, family, mac: await resolve(env, interfaceName, address, netns) };
	}
	throw new XdpilotError('E_HOST', `no default route leaves through ${interfaceName}`, {
		hint: 'add one, or set datapath.gateway_mac to the MAC of the next hop',
		retryable: true,
	});
}

/** Next hop of the default route with the lowest metric, or undefined. */
async function defaultNextHop(interfaceName: string, family: Family, netns?: string): Promise<Address | undefined> {
	const rows = (await runJson(['ip', '-j', `-${family}`, 'route', 'show', 'default'], { netns })) as RouteRow[];
	const hops = rows.flatMap((r) => [r, ...(r.nexthops ?? [])].map((hop) => ({ ...hop, metric: r.metric ?? 0 })));
	const mine = hops.filter((h) => h.dev === interfaceName).sort((a, b) => a.metric - b.metric);
	return mine.map((h) => parseAddress(h.gateway ?? h.via?.host ?? '')).find((a) => a !== undefined);
}

interface NextHop {
	dev?: string;
	gateway?: string;
	/** An IPv4 route by way of an IPv6 next hop (RFC 5549). */
	via?: { host?: string };
}

interface RouteRow extends NextHop {
	metric?: number;
	nexthops?: NextHop[];
}

async function resolve(env: Env, interfaceName: string, address: Address, netns?: string): Promise<Uint8Array> {
	const known = await neighbourMac(interfaceName, address, netns);
	if (known !== undefined) return known;
	await refresh(interfaceName, address, netns);
	const deadline = env.now() + RESOLVE_MS;
	for (;;) {
		const mac = await neighbourMac(interfaceName, address, netns);
		if (mac !== undefined) return mac;
		if (env.now() >= deadline) break;
		await sleep(env, RESOLVE_STEP_MS);
	}
	throw new XdpilotError('E_HOST', `the next hop ${address} on ${interfaceName} doesn't answer ARP or neighbour discovery`, {
		hint: 'check the link and the default route, or set datapath.gateway_mac',
		retryable: true,
	});
}

/** NTF_USE: the kernel creates the entry if need be and probes it, as if a packet had been sent. */
async function refresh(interfaceName: string, address: Address, netns?: string): Promise<void> {
	await runCommand(['ip', 'neigh', 'replace', address, 'dev', interfaceName, 'use'], { netns }).catch(() => {
		// A permanent entry refuses; it needs no probe either.
	});
}

async function neighbourMac(interfaceName: string, address: Address, netns?: string): Promise<Uint8Array | undefined> {
	const rows = (await runJson(['ip', '-j', 'neigh', 'show', 'to', address, 'dev', interfaceName], { netns })) as {
		lladdr?: string;
		state?: string[];
	}[];
	const usable = rows.find((r) => r.lladdr !== undefined && !(r.state ?? []).some((s) => s === 'FAILED' || s === 'INCOMPLETE'));
	return usable?.lladdr === undefined ? undefined : parseMac(usable.lladdr);
}

/**
 * Calls the listener for the gateway and for each change of its address or MAC. Driven by `ip monitor`; a slow poll
 * catches what the monitor may miss and keeps the neighbour entry fresh.
 */
export function watchGateway(env: Env, interfaceName: string, listener: GatewayListener, netns?: string): GatewayWatch {
	return new Watcher(env, interfaceName, listener, netns);
}

class Watcher implements GatewayWatch {
	readonly #env: Env;
	readonly #interface: string;
	readonly #netns: string | undefined;
	readonly #listener: GatewayListener;
	#monitor: LineReader | undefined;
	/** The next look, whoever asked for it. */
	#timer: Timer | undefined;
	#dueAt = 0;
	#restart: Timer | undefined;
	#looking: Promise<void> | undefined;
	#lookAgain = false;
	/** What the listener was told last. */
	#told = '';
	#address: Address | undefined;
	#closed = false;

	constructor(env: Env, interfaceName: string, listener: GatewayListener, netns: string | undefined) {
		this.#env = env;
		this.#interface = interfaceName;
		this.#listener = listener;
		this.#netns = netns;
		this.#startMonitor();
		this.#lookIn(0);
	}

	async close(): Promise<void> {
		this.#closed = true;
		this.#timer?.cancel();
		this.#restart?.cancel();
		await this.#monitor?.close();
		await this.#looking;
	}

	#startMonitor(): void {
		const again = () => {
			if (!this.#closed) this.#restart = this.#env.setTimer(RESTART_MS, () => this.#startMonitor(), { unref: true });
		};
		this.#monitor = readLines(['ip', 'monitor', 'link', 'address', 'route', 'neigh'], this.#netns, (line) => this.#heard(line), again);
	}

	/** A host with thousands of neighbours reports each of them: only the gateway's own entry counts. */
	#heard(line: string): void {
		const subject = parseAddress(line.replace(/^Deleted /, '').split(' ', 1)[0] ?? '');
		if (subject === undefined || this.#address === undefined || subject === this.#address) this.#lookIn(SETTLE_MS);
	}

	#lookIn(ms: number): void {
		if (this.#closed) return;
		if (this.#looking !== undefined) {
			this.#lookAgain = true;
			return;
		}
		const dueAt = this.#env.now() + ms;
		if (this.#timer !== undefined && this.#dueAt <= dueAt) return;
		this.#timer?.cancel();
		this.#dueAt = dueAt;
		this.#timer = this.#env.setTimer(ms, () => {
			this.#timer = undefined;
			this.#looking = this.#look(ms === POLL_MS).finally(() => {
				this.#looking = undefined;
				this.#lookIn(this.#lookAgain ? SETTLE_MS : POLL_MS);
				this.#lookAgain = false;
			});
		});
	}

	async #look(isPoll: boolean): Promise<void> {
		try {
			if (isPoll && this.#address !== undefined) await refresh(this.#interface, this.#address, this.#netns);
			const gateway = await findGateway(this.#env, this.#interface, this.#netns);
			const key = `${gateway.address} ${formatMac(gateway.mac)}`;
			if (this.#closed || key === this.#told) return;
			this.#told = key;
			this.#address = gateway.address;
			this.#listener.changed(gateway);
		} catch (e) {
			const reason = messageOf(e);
			if (this.#closed || reason === this.#told) return;
			this.#told = reason;
			this.#address = undefined;
			this.#listener.lost(reason);
		}
	}
}
