// SPDX-License-Identifier: Apache-2.0
// The Consul source against a real Consul: the common promises.
import { after } from 'node:test';
import { systemEnv } from '../../src/env.ts';
import { silentLogger } from '../../src/log.ts';
import { ConsulSource } from '../../src/sources/consul/consul-source.ts';
import { ConsulServer, skipWithoutConsul } from '../support/consul-server.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { type Registered, type RegistrySubject, sourceConformance } from '../support/source-conformance.ts';

let started: Promise<ConsulServer> | undefined;
after(async () => (await started)?.dispose());

const STATUS = { active: 'passing', draining: 'passing', down: 'critical' } as const;

async function subject(): Promise<RegistrySubject> {
	started ??= ConsulServer.start();
	const consul = await started;
	const proxy = await FaultProxy.start(consul.port);
	const services = new Map<string, string>();
	let writes = 0;
	const idOf = (service: string, id: string) => `${service}-${id}`;
	const register = async (service: string, id: string, { address, port, weight, state }: Registered) => {
		services.set(idOf(service, id), service);
		const weights = { Passing: weight, Warning: 1 };
		await consul.register({ id: idOf(service, id), service, address, port, weights, status: STATUS[state] });
		// A check that exists already keeps its status over a registration.
		await consul.setCheck(idOf(service, id), STATUS[state]);
		await consul.maintenance(idOf(service, id), state === 'draining');
	};
	return {
		createSource: () =>
			new ConsulSource({
				name: 'consul',
				address: { kind: 'tcp', secure: false, host: '127.0.0.1', port: proxy.port },
				env: systemEnv,
				logger: silentLogger(),
				tuning: { backoff: { minMs: 20, maxMs: 200 } },
			}),
		set: register,
		remove: async (service, id) => {
			services.delete(idOf(service, id));
			await consul.deregister(idOf(service, id));
		},
		spoil: (service, id) => register(service, id, { address: 'not-an-address.example', port: 1, weight: 1, state: 'active' }),
		rewrite: async (service) => {
			for (const [id, of] of services) if (of === service) await consul.setCheck(id, 'passing', `output ${++writes}`);
		},
		takeAway: async () => {
			proxy.isRefusing = true;
			proxy.cutAll();
		},
		held: () => proxy.connections.length,
		dispose: async () => {
			for (const id of services.keys()) await consul.deregister(id);
			await proxy.dispose();
		},
	};
}

sourceConformance('consul', subject, skipWithoutConsul);
