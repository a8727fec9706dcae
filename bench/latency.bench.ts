// SPDX-License-Identifier: Apache-2.0
// From a write to the registry until packets take the new ring. Real registry, real daemon, real program on a veth; the
// end is seen by running a packet through the pinned program, not by asking the daemon.
import type { Flow } from '../src/datapath/datapath.ts';
import { type Address, address } from '../src/model/address.ts';
import { ConsulServer, skipWithoutConsul } from '../test/support/consul-server.ts';
import { DaemonBox, GATEWAY_MAC } from '../test/support/daemon-process.ts';
import { EtcdServer, skipWithoutEtcd } from '../test/support/etcd-server.ts';
import { inNamespace } from '../test/support/netns-thread.ts';
import { whyNoBpf } from '../test/support/privileged.ts';
import { type Bench, type BenchRow, type BenchSection, runAlone, stats } from './bench.ts';

const SAMPLES = 100;
const TIMEOUT_MS = 5000;
/** Between samples: longer than the quiet window, and never in step with anything. */
const PAUSE_MS = [80, 160] as const;
const STAYING = [address('10.88.1.1'), address('10.88.1.2')];
const CHANGING = address('10.88.1.3');

/** One registry, as far as this bench writes to it. Each call resolves when the registry has taken it. */
interface Registry {
	readonly name: string;
	readonly source: string;
	add(service: string, a: Address): Promise<void>;
	/** Its lease ends, or its check fails. */
	fail(service: string, a: Address): Promise<void>;
	/** As if it had never been: after a failure, before the next addition. */
	clear(service: string, a: Address): Promise<void>;
	dispose(): Promise<void>;
}

async function etcdRegistry(): Promise<Registry> {
	const server = await EtcdServer.start();
	const leases = new Map<string, string>();
	const key = (service: string, a: Address) => `/services/${service}/${a}`;
	return {
		name: 'etcd',
		source: `{ kind: etcd, endpoints: ["${server.url}"] }`,
		async add(service, a) {
			const lease = leases.get(key(service, a)) ?? (await server.grant(3600));
			leases.set(key(service, a), lease);
			await server.put(key(service, a), `{"address":"${a}"}`, lease);
		},
		async fail(service, a) {
			await server.revoke(leases.get(key(service, a)) ?? '0');
			leases.delete(key(service, a));
		},
		async clear(service, a) {
			await server.delete(key(service, a));
			// The next lease is made now, so that an addition is one write.
			leases.set(key(service, a), await server.grant(3600));
		},
		dispose: () => server.dispose(),
	};
}

async function consulRegistry(): Promise<Registry> {
	const server = await ConsulServer.start();
	const id = (service: string, a: Address) => `${service}-${a}`;
	return {
		name: 'Consul',
		source: `{ kind: consul, address: "${server.url}" }`,
		add: (service, a) => server.register({ id: id(service, a), service, address: a }),
		fail: (service, a) => server.setCheck(id(service, a), 'critical'),
		clear: (service, a) => server.deregister(id(service, a)),
		dispose: () => server.dispose(),
	};
}

const CONFIG = (registry: Registry) => `
allowed_backends: [10.88.0.0/16]
sources: { registry: ${registry.source} }
pools:
  eager: { from: { source: registry, service: eager }, debounce: { quiet: 0ms, max: 0ms } }
  usual: { from: { source: registry, service: usual } }
vips:
  - { address: 203.0.113.10, port: 80, protocol: tcp, pool: eager, flags: [no_flow_table] }
  - { address: 203.0.113.11, port: 80, protocol: tcp, pool: usual, flags: [no_flow_table] }
`;
const VIP_OF: Readonly<Record<string, Address>> = { eager: address('203.0.113.10'), usual: address('203.0.113.11') };

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const pauseBetween = () => pause(PAUSE_MS[0] + Math.random() * (PAUSE_MS[1] - PAUSE_MS[0]));

const flowTo = (vip: Address, n: number): Flow => ({
	source: address(`192.0.2.${1 + (n % 250)}`),
	sourcePort: 1024 + n,
	dest: vip,
	destPort: 80,
	protocol: 'tcp',
});

/** Milliseconds from now until packets of the flow go (or no longer go) to the backend that changes; looks every millisecond. */
async function timeUntil(box: DaemonBox, flow: Flow, isThere: boolean, write: () => Promise<void>): Promise<number> {
	const start = performance.now();
	const written = write();
	try {
		for (;;) {
			if ((box.forward(flow).to === CHANGING) === isThere) return performance.now() - start;
			if (performance.now() - start > TIMEOUT_MS) throw new Error(`packets did not follow within ${TIMEOUT_MS} ms`);
			await pause(1);
		}
	} finally {
		await written;
	}
}

interface Times {
	readonly added: number[];
	readonly failed: number[];
}

async function measure(box: DaemonBox, registry: Registry, service: string): Promise<Times> {
	const vip = VIP_OF[service] ?? CHANGING;
	const times: Times = { added: [], failed: [] };
	await registry.add(service, CHANGING);
	await box.untilActive(service, ...STAYING, CHANGING);
	const flow = Array.from({ length: 1000 }, (_, n) => flowTo(vip, n)).find((f) => box.forward(f).to === CHANGING);
	if (flow === undefined) throw new Error('no flow goes to the new backend');
	for (let i = 0; i < SAMPLES; i++) {
		await pauseBetween();
		times.failed.push(await timeUntil(box, flow, false, () => registry.fail(service, CHANGING)));
		await registry.clear(service, CHANGING);
		await pauseBetween();
		times.added.push(await timeUntil(box, flow, true, () => registry.add(service, CHANGING)));
	}
	return times;
}

function row(what: string, samples: readonly number[], goal: string, isMet: (s: { median: number; p99: number }) => boolean): BenchRow {
	const s = stats(samples);
	return { what, goal, met: isMet(s), unit: 'ms', digits: 1, ...s };
}

async function measureRegistry(open: () => Promise<Registry>, progress: (line: string) => void): Promise<BenchRow[]> {
	const box = await DaemonBox.create('latency');
	try {
		return await inNamespace(box.netns, async () => {
			const registry = await open();
			try {
				for (const service of Object.keys(VIP_OF)) for (const a of STAYING) await registry.add(service, a);
				box.configure(CONFIG(registry), `, gateway_mac: "${GATEWAY_MAC}"`, 'ring_size: 65537');
				await box.start().untilLogged(/ready: /);
				const eager = await measure(box, registry, 'eager');
				const usual = await measure(box, registry, 'usual');
				progress(`${registry.name}: ${SAMPLES} additions and failures of each kind`);
				const fast = (s: { median: number; p99: number }) => s.median <= 15 && s.p99 <= 60;
				return [
					row(`${registry.name}, quiet window 0, backend added`, eager.added, 'p50 <= 15, p99 <= 60', fast),
					row(`${registry.name}, quiet window 0, backend failed`, eager.failed, 'p50 <= 15, p99 <= 60', fast),
					row(`${registry.name}, default settings, backend added`, usual.added, 'p50 <= 80', (s) => s.median <= 80),
					row(`${registry.name}, default settings, backend failed`, usual.failed, 'p99 <= 60', (s) => s.p99 <= 60),
				];
			} finally {
				await registry.dispose();
			}
		});
	} finally {
		await box.remove();
	}
}

export const bench: Bench = {
	name: 'latency',
	async run(progress): Promise<BenchSection> {
		const missing = whyNoBpf() ?? (skipWithoutEtcd || skipWithoutConsul);
		if (missing !== undefined && missing !== false) throw new Error(missing);
		const rows = [...(await measureRegistry(etcdRegistry, progress)), ...(await measureRegistry(consulRegistry, progress))];
		return {
			title: 'From a registry write until packets take the new ring',
			method: `A real registry, the real daemon and its program on a veth (native), all on this machine. The clock starts before the
write is sent and stops when a packet of one flow, run through the pinned program every millisecond, goes to the backend
that was added, or no longer to the one that failed: registry, watch, guard, debounce, ring build, map swap and its grace
period are all in it. A failure is a lease that ends (etcd) or a check that becomes critical (Consul). The pool has two
backends beside the one that comes and goes; everything else is as it
is by default, rings of 65,537 slots too.`,
			rows,
			remarks: 'By default a change waits until its pool was quiet for 50 ms, so that a deployment is one swap; a failure does not wait.',
		};
	},
};

await runAlone(bench, import.meta);
