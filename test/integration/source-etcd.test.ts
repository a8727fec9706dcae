// SPDX-License-Identifier: Apache-2.0
// The etcd source against a real etcd: the common promises.
import { after } from 'node:test';
import { systemEnv } from '../../src/env.ts';
import { silentLogger } from '../../src/log.ts';
import { EtcdSource } from '../../src/sources/etcd/etcd-source.ts';
import { auto } from '../../src/sources/etcd/layouts/auto.ts';
import { EtcdServer, skipWithoutEtcd } from '../support/etcd-server.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { type Registered, type RegistrySubject, sourceConformance } from '../support/source-conformance.ts';

let started: Promise<EtcdServer> | undefined;
let subjects = 0;
after(async () => (await started)?.dispose());

async function subject(): Promise<RegistrySubject> {
	started ??= EtcdServer.start();
	const etcd = await started;
	const proxy = await FaultProxy.start(etcd.port);
	const prefix = `/conformance-${++subjects}/`;
	const values = new Map<string, string>();
	const put = async (key: string, value: string) => {
		values.set(key, value);
		await etcd.put(key, value);
	};
	const keyOf = (service: string, id: string) => `${prefix}${service}/${id}`;
	return {
		createSource: () =>
			new EtcdSource({
				name: 'etcd',
				endpoints: [{ url: `http://127.0.0.1:${proxy.port}`, secure: false, host: '127.0.0.1', port: proxy.port }],
				prefix,
				layout: auto,
				env: systemEnv,
				logger: silentLogger(),
				tuning: { backoff: { minMs: 20, maxMs: 200 } },
			}),
		set: (service, id, instance: Registered) => put(keyOf(service, id), JSON.stringify(instance)),
		remove: async (service, id) => {
			values.delete(keyOf(service, id));
			await etcd.delete(keyOf(service, id));
		},
		spoil: (service, id) => put(keyOf(service, id), 'nonsense'),
		rewrite: async (service) => {
			for (const [key, value] of values) if (key.startsWith(keyOf(service, ''))) await etcd.put(key, value);
		},
		takeAway: async () => {
			proxy.isRefusing = true;
			proxy.cutAll();
		},
		held: () => proxy.connections.length,
		dispose: () => proxy.dispose(),
	};
}

sourceConformance('etcd', subject, skipWithoutEtcd);
