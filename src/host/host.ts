// SPDX-License-Identifier: Apache-2.0
// The host as the daemon sees it: one interface to inject, and the real one. Only reads, except that looking for the
// gateway makes the kernel probe its neighbour entry.
import type { Env } from '../env.ts';
import { findGateway, type Gateway, type GatewayListener, type GatewayWatch, watchGateway } from './gateway.ts';
import { findInterface, type HostInterface, listInterfaces } from './interfaces.ts';
import { judgePreflight, type PreflightItem, readPreflightFacts } from './preflight.ts';

export interface Host {
	/** @throws XdpilotError E_HOST when there is none of that name */
	interface(name: string): Promise<HostInterface>;
	/** All of them, for the addresses that no backend may have. */
	interfaces(): Promise<readonly HostInterface[]>;
	/** Next hop of the default route through an interface. @throws XdpilotError E_HOST */
	gateway(interfaceName: string): Promise<Gateway>;
	/** Calls the listener with the gateway as soon as it is known, then with each change. */
	watchGateway(interfaceName: string, listener: GatewayListener): GatewayWatch;
	/** One item for each requirement, met or not. */
	preflight(): Promise<readonly PreflightItem[]>;
}

/** The machine, or one network namespace of it. */
export class SystemHost implements Host {
	readonly #env: Env;
	readonly #netns: string | undefined;

	/** `netns`: path of a network namespace; this process's own without it. */
	constructor(env: Env, netns?: string) {
		this.#env = env;
		this.#netns = netns;
	}

	interface(name: string): Promise<HostInterface> {
		return findInterface(name, this.#netns);
	}

	interfaces(): Promise<HostInterface[]> {
		return listInterfaces(this.#netns);
	}

	gateway(interfaceName: string): Promise<Gateway> {
		return findGateway(this.#env, interfaceName, this.#netns);
	}

	watchGateway(interfaceName: string, listener: GatewayListener): GatewayWatch {
		return watchGateway(this.#env, interfaceName, listener, this.#netns);
	}

	async preflight(): Promise<PreflightItem[]> {
		return judgePreflight(await readPreflightFacts());
	}
}
