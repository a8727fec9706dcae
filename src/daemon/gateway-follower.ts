// SPDX-License-Identifier: Apache-2.0
// Keeps the destination MAC of everything sent equal to the next hop's. What was known stays valid until there is
// something better: a gateway that can't be resolved for a moment stops no traffic.
import { type Env, sleep } from '../env.ts';
import { messageOf } from '../errors.ts';
import type { GatewayWatch } from '../host/gateway.ts';
import type { Host } from '../host/host.ts';
import { formatMac } from '../host/interfaces.ts';
import type { Logger } from '../log.ts';

const RETRY_MS = 1000;
const FIRST_WAIT_MS = 15_000;

/**
 * The MAC that the configuration names, or that of the default route's next hop; waits a while for the latter, since a
 * daemon may start before the network is complete. @throws XdpilotError E_HOST when there is none by then
 */
export async function firstGatewayMac(
	env: Env,
	logger: Logger,
	host: Host,
	interfaceName: string,
	configured: 'auto' | Uint8Array,
	signal: AbortSignal,
): Promise<Uint8Array> {
	if (configured !== 'auto') return configured;
	const deadline = env.now() + FIRST_WAIT_MS;
	for (;;) {
		try {
			const gateway = await host.gateway(interfaceName);
			logger.info({ gateway: gateway.address, mac: formatMac(gateway.mac) }, `gateway of ${interfaceName} found`);
			return gateway.mac;
		} catch (e) {
			if (env.now() >= deadline) throw e;
			logger.warn(`${messageOf(e)}; trying again`);
			await sleep(env, RETRY_MS, signal);
		}
	}
}

export class GatewayFollower {
	readonly #logger: Logger;
	readonly #set: (mac: Uint8Array) => void;
	#present: string;
	#watch: GatewayWatch | undefined;

	/** `present`: what the datapath sends to now; `set` changes it. */
	constructor(logger: Logger, present: Uint8Array, set: (mac: Uint8Array) => void) {
		this.#logger = logger;
		this.#present = formatMac(present);
		this.#set = set;
	}

	/** Follows the host from now on, or stays with one MAC. */
	async follow(host: Host, interfaceName: string, configured: 'auto' | Uint8Array): Promise<void> {
		await this.close();
		if (configured !== 'auto') return this.#change(configured, 'configured');
		this.#watch = host.watchGateway(interfaceName, {
			changed: (gateway) => this.#change(gateway.mac, gateway.address),
			lost: (reason) => this.#logger.warn(`${reason}; ${this.#present} stays the destination`),
		});
	}

	async close(): Promise<void> {
		const watch = this.#watch;
		this.#watch = undefined;
		await watch?.close();
	}

	#change(mac: Uint8Array, gateway: string): void {
		const text = formatMac(mac);
		if (text === this.#present) return;
		try {
			this.#set(mac);
			this.#logger.info({ gateway, mac: text, was: this.#present }, 'gateway changed');
			this.#present = text;
		} catch (e) {
			this.#logger.error({ err: e, gateway, mac: text }, `the gateway's MAC could not be changed: ${messageOf(e)}`);
		}
	}
}
