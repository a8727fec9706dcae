// SPDX-License-Identifier: Apache-2.0
// A host of one interface whose facts a test sets and changes.
import { XdpilotError } from '../../src/errors.ts';
import type { Gateway, GatewayListener, GatewayWatch } from '../../src/host/gateway.ts';
import type { Host } from '../../src/host/host.ts';
import type { HostInterface } from '../../src/host/interfaces.ts';
import type { PreflightItem } from '../../src/host/preflight.ts';
import { type Address, address } from '../../src/model/address.ts';

export class FakeHost implements Host {
	addresses: Address[] = [address('10.9.0.1')];
	/** null = can't be resolved. */
	gatewayMac: Uint8Array | null = Uint8Array.of(2, 0, 0, 0, 0, 1);
	requirements: readonly PreflightItem[] = [];
	readonly listeners = new Set<GatewayListener>();

	async interface(name: string): Promise<HostInterface> {
		const found = (await this.interfaces()).find((i) => i.name === name);
		if (found === undefined) throw new XdpilotError('E_HOST', `there is no interface ${name}`);
		return found;
	}

	async interfaces(): Promise<readonly HostInterface[]> {
		const addresses = this.addresses.map((a) => ({ address: a, length: 24, scope: 'global' as const }));
		return [{ name: 'fake0', index: 7, mac: new Uint8Array(6), mtu: 1500, up: true, loopback: false, addresses }];
	}

	async gateway(name: string): Promise<Gateway> {
		if (this.gatewayMac === null) throw new XdpilotError('E_HOST', `no default route leaves through ${name}`, { retryable: true });
		return { interface: name, address: address('10.9.0.254'), family: 4, mac: this.gatewayMac };
	}

	watchGateway(_name: string, listener: GatewayListener): GatewayWatch {
		this.listeners.add(listener);
		return {
			close: async () => {
				this.listeners.delete(listener);
			},
		};
	}

	/** The gateway is this one from now on, and its watchers are told. */
	async moveGateway(mac: Uint8Array): Promise<void> {
		this.gatewayMac = mac;
		const gateway = await this.gateway('fake0');
		for (const l of this.listeners) l.changed(gateway);
	}

	async preflight(): Promise<readonly PreflightItem[]> {
		return this.requirements;
	}
}
