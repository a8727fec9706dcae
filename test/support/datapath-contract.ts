// SPDX-License-Identifier: Apache-2.0
// What every Datapath promises, as one suite: it runs against the fake and against the real one, privately and on
// an interface. A subject brings its datapath and a way to send one packet through it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BackendPut, Datapath, DatapathLimits, Flow, RingSpec } from '../../src/datapath/datapath.ts';
import { isXdpilotError } from '../../src/errors.ts';
import { type Address, address, addressBytes, compareAddresses } from '../../src/model/address.ts';
import type { BackendState } from '../../src/model/backend.ts';
import type { HashFunction } from '../../src/model/pool.ts';
import { type Vip, type VipFlag, vipKey } from '../../src/model/vip.ts';

export interface ContractSubject {
	readonly datapath: Datapath;
	/** Sends one packet of the flow; tells the backend that it was sent to. */
	send(flow: Flow, packet?: { readonly syn?: boolean }): Address | 'pass' | 'drop';
	/** Closes the datapath and removes everything it left. */
	dispose(): Promise<void>;
}

export type ContractFactory = (limits: Partial<DatapathLimits>) => Promise<ContractSubject>;

const WEB = 'web';
const SMALL = { maxBackends: 12, maxPools: 4, maxVips: 4, maxBackendsPerPool: 6 };

export const backendAddress = (n: number) => address(`10.0.${n >> 8}.${n & 255}`);
export const clientFlow = (n: number, over: Partial<Flow> = {}): Flow => ({
	source: address(`192.168.${(n >> 8) & 255}.${n & 255}`),
	sourcePort: 1024 + (n % 60_000),
	dest: address('203.0.113.10'),
	destPort: 443,
	protocol: 'tcp',
	...over,
});

export function put(n: number, over: Partial<BackendPut> = {}): BackendPut {
	return { pool: WEB, address: backendAddress(n), state: 'active', encap: 'ipip', local: false, ...over };
}

export function ring(members: readonly number[], over: { pool?: string; hash?: HashFunction; weight?: number } = {}): RingSpec {
	const sorted = members.map(backendAddress).sort(compareAddresses);
	return { pool: over.pool ?? WEB, hash: over.hash ?? 'maglev-v2', members: sorted.map((a) => ({ address: a, weight: over.weight ?? 1 })) };
}

export function vip(over: { address?: string; port?: number; protocol?: 'tcp' | 'udp'; pool?: string; flags?: VipFlag[] } = {}): Vip {
	const host = address(over.address ?? '203.0.113.10');
	return {
		prefix: { address: host, length: addressBytes(host).length * 8 },
		port: over.port ?? 443,
		protocol: over.protocol ?? 'tcp',
		pool: over.pool ?? WEB,
		flags: over.flags ?? [],
	};
}

/** A pool of backends 1..n behind the vip, forwarding. */
export async function forwarding(datapath: Datapath, n: number, flags: VipFlag[] = []): Promise<void> {
	const numbers = Array.from({ length: n }, (_, i) => i + 1);
	datapath.putBackends(numbers.map((i) => put(i)));
	await datapath.swapRings([ring(numbers)]);
	await datapath.putVips([vip({ flags })]);
}

const hasCode = (code: string) => (e: unknown) => isXdpilotError(e) && e.code === code;
const states = (datapath: Datapath) =>
	Object.fromEntries([...(datapath.actual().pools.get(WEB)?.backends ?? [])].map(([a, b]) => [a, b.state]));

/** Registers the suite for one kind of datapath. */
export function datapathContract(name: string, factory: ContractFactory, skip: string | false = false): void {
	const check = (title: string, body: (subject: ContractSubject) => Promise<void>, limits: Partial<DatapathLimits> = {}) =>
		test(`${name}: ${title}`, { skip }, async () => {
			const subject = await factory({ ...SMALL, ...limits });
			try {
				await body(subject);
			} finally {
				await subject.dispose();
			}
		});
	startsEmpty(check);
	backends(check);
	rings(check);
	vips(check);
	removal(check);
	forwardingRules(check);
	explanations(check);
}

type Check = (title: string, body: (subject: ContractSubject) => Promise<void>, limits?: Partial<DatapathLimits>) => void;

function startsEmpty(check: Check): void {
	check('starts empty and passes what belongs to no vip', async ({ datapath, send }) => {
		assert.equal(datapath.actual().pools.size, 0);
		assert.equal(datapath.actual().vips.size, 0);
		assert.equal(send(clientFlow(1)), 'pass');
		assert.equal(datapath.explain(clientFlow(1)).vip, null);
	});

	check('refuses everything after close', async ({ datapath }) => {
		await datapath.close();
		assert.throws(() => datapath.putBackends([put(1)]), hasCode('E_DATAPATH'));
		await assert.rejects(datapath.swapRings([]), hasCode('E_DATAPATH'));
		await datapath.close();
	});
}

function backends(check: Check): void {
	check('shows backends with their state, encapsulation and locality', async ({ datapath }) => {
		datapath.putBackends([put(1), put(2, { state: 'draining' }), put(3, { local: true })]);
		const pool = datapath.actual().pools.get(WEB);
		assert.equal(pool?.ring, null);
		assert.deepEqual(
			[...(pool?.backends.values() ?? [])].map((b) => [b.address, b.state, b.encap, b.local, b.weight]),
			[
				['10.0.0.1', 'active', 'ipip', false, 0],
				['10.0.0.2', 'draining', 'ipip', false, 0],
				['10.0.0.3', 'active', 'ipip', true, 0],
			],
		);
	});

	check('changes the state of a known backend in place, and repeating a put is harmless', async ({ datapath }) => {
		datapath.putBackends([put(1), put(2)]);
		for (let i = 0; i < 2; i++) datapath.putBackends([put(1, { state: 'down' })]);
		assert.deepEqual(states(datapath), { '10.0.0.1': 'down', '10.0.0.2': 'active' });
	});

	check('keeps one address in two pools apart', async ({ datapath }) => {
		datapath.putBackends([put(1), put(1, { pool: 'api', state: 'down' })]);
		const { pools } = datapath.actual();
		assert.equal(pools.get(WEB)?.backends.get(backendAddress(1))?.state, 'active');
		assert.equal(pools.get('api')?.backends.get(backendAddress(1))?.state, 'down');
	});

	check('says E_LIMIT when backend ids are used up, and keeps what fitted', async ({ datapath }) => {
		const many = Array.from({ length: SMALL.maxBackends + 1 }, (_, i) => put(i + 1));
		assert.throws(() => datapath.putBackends(many), hasCode('E_LIMIT'));
		assert.equal(datapath.actual().pools.get(WEB)?.backends.size, SMALL.maxBackends);
	});

	check('says E_LIMIT when pools are used up', async ({ datapath }) => {
		for (let i = 0; i < SMALL.maxPools; i++) datapath.putBackends([put(1, { pool: `pool${i}` })]);
		assert.throws(() => datapath.putBackends([put(1, { pool: 'one-too-many' })]), hasCode('E_LIMIT'));
		assert.equal(datapath.actual().pools.size, SMALL.maxPools);
	});
}

function rings(check: Check): void {
	check('builds a ring whose slots follow the weights, with a digest and generation 1', async ({ datapath }) => {
		datapath.putBackends([put(1), put(2), put(3)]);
		const [swap] = await datapath.swapRings([
			{ ...ring([1, 2, 3]), members: [1, 2, 3].map((n) => ({ address: backendAddress(n), weight: n })) },
		]);
		assert.equal(swap?.generation, 1);
		assert.match(swap?.digest ?? '', /^sha256:[0-9a-f]{64}$/);
		const pool = datapath.actual().pools.get(WEB);
		const slots = [1, 2, 3].map((n) => pool?.backends.get(backendAddress(n))?.slots ?? 0);
		const size = datapath.limits.ringSize;
		assert.equal(
			slots.reduce((a, b) => a + b),
			size,
		);
		for (const [i, n] of slots.entries())
			assert.ok(Math.abs(n - (size * (i + 1)) / 6) < size * 0.02, `${n} slots for weight ${i + 1} of 6`);
		assert.equal(pool?.ring?.digest, swap?.digest);
		assert.equal(pool?.backends.get(backendAddress(3))?.weight, 3);
	});

	check('does not write a ring with unchanged inputs', async ({ datapath }) => {
		await forwarding(datapath, 3);
		const before = datapath.actual().pools.get(WEB)?.ring;
		assert.deepEqual(await datapath.swapRings([ring([1, 2, 3])]), []);
		assert.deepEqual(datapath.actual().pools.get(WEB)?.ring, before);
	});

	check('counts the generation, and tells moved from unavoidable slots', async ({ datapath }) => {
		await forwarding(datapath, 4);
		const lost = datapath.actual().pools.get(WEB)?.backends.get(backendAddress(4))?.slots;
		const [swap] = await datapath.swapRings([ring([1, 2, 3])]);
		assert.equal(swap?.generation, 2);
		assert.equal(swap?.unavoidable, lost);
		assert.ok(swap && swap.moved !== null && lost !== null && lost !== undefined && swap.moved >= lost);
	});

	check('gives the same digest for the same inputs, whatever the ids', async ({ datapath }) => {
		datapath.putBackends([put(1), put(2), put(2, { pool: 'api' }), put(1, { pool: 'api' })]);
		const [a, b] = await datapath.swapRings([ring([1, 2]), ring([1, 2], { pool: 'api' })]);
		assert.equal(a?.digest, b?.digest);
		const [c] = await datapath.swapRings([ring([1, 2], { hash: 'maglev-v1' })]);
		assert.notEqual(c?.digest, a?.digest);
	});

	check('creates a pool by an empty ring, and drops what is sent to it', async ({ datapath, send }) => {
		const [swap] = await datapath.swapRings([ring([])]);
		assert.equal(swap?.digest, null);
		await datapath.putVips([vip()]);
		assert.equal(send(clientFlow(1)), 'drop');
		assert.equal(typeof datapath.explain(clientFlow(1)).drop, 'string');
	});

	check('clears a ring, and remembers it for the next one', async ({ datapath, send }) => {
		await forwarding(datapath, 2, ['no_flow_table']);
		await datapath.swapRings([ring([])]);
		assert.equal(send(clientFlow(1)), 'drop');
		assert.equal(datapath.actual().pools.get(WEB)?.backends.get(backendAddress(1))?.weight, 0);
		const [swap] = await datapath.swapRings([ring([1, 2])]);
		assert.equal(swap?.generation, 3);
		assert.notEqual(send(clientFlow(1)), 'drop');
	});

	check('refuses a ring that names a backend that was never put', async ({ datapath }) => {
		datapath.putBackends([put(1)]);
		await assert.rejects(datapath.swapRings([ring([1, 2])]), hasCode('E_DATAPATH'));
		assert.equal(datapath.actual().pools.get(WEB)?.ring, null);
	});

	check('refuses a ring above the limit of backends in a pool', async ({ datapath }) => {
		const numbers = Array.from({ length: SMALL.maxBackendsPerPool + 1 }, (_, i) => i + 1);
		datapath.putBackends(numbers.map((n) => put(n)));
		await assert.rejects(datapath.swapRings([ring(numbers)]), hasCode('E_LIMIT'));
	});

	check('takes swaps that are asked for at the same time in order', async ({ datapath }) => {
		datapath.putBackends([put(1), put(2), put(3)]);
		const swaps = await Promise.all([
			datapath.swapRings([ring([1])]),
			datapath.swapRings([ring([1, 2])]),
			datapath.swapRings([ring([1, 2, 3])]),
		]);
		assert.deepEqual(
			swaps.map(([s]) => s?.generation),
			[1, 2, 3],
		);
		assert.equal(datapath.actual().pools.get(WEB)?.backends.get(backendAddress(3))?.weight, 1);
	});
}

function vips(check: Check): void {
	check('forwards every vip of the set, and no other', async ({ datapath, send }) => {
		await forwarding(datapath, 2);
		await datapath.putVips([vip(), vip({ protocol: 'udp' }), vip({ address: '2001:db8::10' })]);
		assert.deepEqual([...datapath.actual().vips.keys()].sort(), ['203.0.113.10:443/tcp', '203.0.113.10:443/udp', '[2001:db8::10]:443/tcp']);
		assert.notEqual(send(clientFlow(1, { protocol: 'udp' })), 'pass');
		await datapath.putVips([vip()]);
		assert.equal(send(clientFlow(1, { protocol: 'udp' })), 'pass');
		assert.notEqual(send(clientFlow(1)), 'pass');
	});

	check('prefers the exact port over the vip for every port', async ({ datapath, send }) => {
		datapath.putBackends([put(1), put(2, { pool: 'any' })]);
		await datapath.swapRings([ring([1]), ring([2], { pool: 'any' })]);
		await datapath.putVips([vip(), vip({ port: 0, pool: 'any' })]);
		assert.equal(send(clientFlow(1)), backendAddress(1));
		assert.equal(send(clientFlow(1, { destPort: 8443 })), backendAddress(2));
	});

	check('moves a vip to another pool, and back', async ({ datapath, send }) => {
		datapath.putBackends([put(1), put(2, { pool: 'api' })]);
		await datapath.swapRings([ring([1]), ring([2], { pool: 'api' })]);
		for (const [pool, n] of [
			[WEB, 1],
			['api', 2],
			[WEB, 1],
		] as const) {
			await datapath.putVips([vip({ pool, flags: ['no_flow_table'] })]);
			assert.equal(send(clientFlow(1)), backendAddress(n));
			assert.equal(datapath.actual().vips.get(vipKey(vip()))?.pool, pool);
		}
	});

	check('keeps flags', async ({ datapath }) => {
		await forwarding(datapath, 1, ['hash_no_source_port', 'no_flow_table']);
		assert.deepEqual(datapath.actual().vips.get(vipKey(vip()))?.flags, ['hash_no_source_port', 'no_flow_table']);
	});

	check('refuses a vip whose pool does not exist, and changes nothing', async ({ datapath, send }) => {
		await forwarding(datapath, 1);
		await assert.rejects(datapath.putVips([vip(), vip({ port: 80, pool: 'nobody' })]), hasCode('E_DATAPATH'));
		assert.deepEqual([...datapath.actual().vips.keys()], [vipKey(vip())]);
		assert.equal(send(clientFlow(1)), backendAddress(1));
	});

	check('refuses more vips than fit, and changes nothing', async ({ datapath }) => {
		await forwarding(datapath, 1);
		const many = Array.from({ length: SMALL.maxVips + 1 }, (_, i) => vip({ port: 1000 + i }));
		await assert.rejects(datapath.putVips(many), hasCode('E_LIMIT'));
		assert.deepEqual([...datapath.actual().vips.keys()], [vipKey(vip())]);
	});

	check('replaces the whole set many times over without running out of numbers', async ({ datapath, send }) => {
		await forwarding(datapath, 1);
		for (let round = 0; round < 6; round++) {
			const ports = Array.from({ length: SMALL.maxVips / 2 }, (_, i) => 2000 + 10 * round + i);
			await datapath.putVips(ports.map((port) => vip({ port })));
			for (const destPort of ports) assert.equal(send(clientFlow(round, { destPort })), backendAddress(1));
		}
	});
}

function removal(check: Check): void {
	check('refuses to remove a backend that a ring names', async ({ datapath }) => {
		await forwarding(datapath, 2);
		await assert.rejects(datapath.removeBackends(WEB, [backendAddress(1)]), hasCode('E_DATAPATH'));
		assert.deepEqual(states(datapath), { '10.0.0.1': 'active', '10.0.0.2': 'active' });
	});

	check('removes backends that no ring names, and removing them again is harmless', async ({ datapath }) => {
		await forwarding(datapath, 2);
		await datapath.swapRings([ring([2])]);
		for (let i = 0; i < 2; i++) await datapath.removeBackends(WEB, [backendAddress(1), backendAddress(77)]);
		assert.deepEqual(states(datapath), { '10.0.0.2': 'active' });
		await datapath.removeBackends('no-such-pool', [backendAddress(1)]);
	});

	check('forgets the flows of a removed backend, so that its id can be given to another', async ({ datapath, send }) => {
		await forwarding(datapath, 2);
		const flows = Array.from({ length: 40 }, (_, n) => clientFlow(n));
		const old = flows.filter((f) => send(f) === backendAddress(1));
		assert.ok(old.length > 0);
		await datapath.swapRings([ring([2])]);
		await datapath.removeBackends(WEB, [backendAddress(1)]);
		// Every free id is taken, so the old one is among them.
		const strangers = Array.from({ length: SMALL.maxBackends - 1 }, (_, i) => put(100 + i, { pool: 'strangers' }));
		datapath.putBackends(strangers);
		for (const flow of old) assert.equal(send(flow), backendAddress(2));
	});

	check('refuses to remove a pool that a vip names; removes others with their backends', async ({ datapath }) => {
		await forwarding(datapath, 2);
		datapath.putBackends([put(3, { pool: 'idle' })]);
		await datapath.swapRings([ring([3], { pool: 'idle' })]);
		await assert.rejects(datapath.removePools([WEB]), hasCode('E_DATAPATH'));
		for (let i = 0; i < 2; i++) await datapath.removePools(['idle', 'no-such-pool']);
		assert.deepEqual([...datapath.actual().pools.keys()], [WEB]);
	});

	check('frees all that a removed pool held', async ({ datapath }) => {
		for (let round = 0; round < 3; round++) {
			for (let i = 0; i < SMALL.maxPools; i++) datapath.putBackends([1, 2, 3].map((n) => put(n, { pool: `r${round}p${i}` })));
			await datapath.removePools(Array.from({ length: SMALL.maxPools }, (_, i) => `r${round}p${i}`));
		}
		assert.equal(datapath.actual().pools.size, 0);
	});
}

function forwardingRules(check: Check): void {
	check('keeps a flow on its backend when the ring changes', async ({ datapath, send }) => {
		await forwarding(datapath, 3);
		const flows = Array.from({ length: 30 }, (_, n) => clientFlow(n));
		const before = flows.map((f) => send(f, { syn: true }));
		datapath.putBackends([put(1, { state: 'draining' }), put(4)]);
		await datapath.swapRings([ring([2, 3, 4])]);
		assert.deepEqual(
			flows.map((f) => send(f)),
			before,
		);
		assert.ok(before.includes(backendAddress(1)));
	});

	check('moves the flows of a backend that is down, and only these', async ({ datapath, send }) => {
		await forwarding(datapath, 3);
		const flows = Array.from({ length: 30 }, (_, n) => clientFlow(n));
		const before = flows.map((f) => send(f));
		await datapath.swapRings([ring([2, 3])]);
		datapath.putBackends([put(1, { state: 'down' })]);
		for (const [i, flow] of flows.entries()) {
			const now = send(flow);
			if (before[i] === backendAddress(1)) assert.ok(now === backendAddress(2) || now === backendAddress(3));
			else assert.equal(now, before[i]);
		}
	});

	check('counts packets by vip and backend, and flows by backend', async ({ datapath, send }) => {
		await forwarding(datapath, 2);
		const flows = Array.from({ length: 20 }, (_, n) => clientFlow(n));
		for (let round = 0; round < 2; round++) for (const flow of flows) send(flow);
		const { vips, backends } = datapath.counters();
		assert.equal(vips.get(vipKey(vip()))?.packets, 40n);
		assert.equal(vips.get(vipKey(vip()))?.newFlows, 20n);
		assert.ok((vips.get(vipKey(vip()))?.bytes ?? 0n) >= 40n * 40n);
		const perBackend = [...(backends.get(WEB)?.values() ?? [])].map((c) => c.packets);
		assert.equal(perBackend.length, 2);
		assert.equal((perBackend[0] ?? 0n) + (perBackend[1] ?? 0n), 40n);
		const counted = await datapath.countFlows();
		assert.equal(
			[...(counted.get(WEB)?.values() ?? [])].reduce((a, b) => a + b, 0),
			20,
		);
	});

	check('starts a new bearer of a number with fresh counters', async ({ datapath, send }) => {
		await forwarding(datapath, 1);
		send(clientFlow(1));
		await datapath.putVips([vip({ port: 80 })]);
		await datapath.putVips([vip()]);
		assert.equal(datapath.counters().vips.get(vipKey(vip()))?.packets, 0n);
	});

	check('takes a gateway of 6 bytes and refuses others', async ({ datapath }) => {
		datapath.setGatewayMac(Uint8Array.of(2, 0, 0, 0, 0, 9));
		assert.throws(() => datapath.setGatewayMac(Uint8Array.of(1, 2)), hasCode('E_DATAPATH'));
	});
}

function explanations(check: Check): void {
	const STATES: readonly BackendState[] = ['active', 'draining'];
	check('explains what a packet would do, before and after it came, and changes nothing by it', async ({ datapath, send }) => {
		await forwarding(datapath, 3);
		for (let n = 0; n < 20; n++) {
			const flow = clientFlow(n);
			const before = datapath.explain(flow);
			assert.equal(before.via, 'ring');
			assert.equal(before.entry, null);
			assert.equal(before.backend?.address, before.ringBackend);
			assert.equal(send(flow), before.backend?.address);
			const after = datapath.explain(flow);
			assert.equal(after.via, 'flow-table');
			assert.equal(after.backend?.address, before.backend?.address);
			assert.equal(after.slot, before.slot);
			assert.ok(after.entry?.usable && after.entry.ageSeconds >= 0 && after.entry.ageSeconds < 60);
			assert.ok(after.backend && STATES.includes(after.backend.state));
		}
	});

	for (const flags of [[], ['hash_no_source_port'], ['hash_source_dest_port'], ['no_flow_table']] satisfies VipFlag[][]) {
		check(`explains IPv4 and IPv6 flows of a vip for every port with flags [${flags}]`, async ({ datapath, send }) => {
			datapath.putBackends([1, 2, 3].map((n) => put(n, { address: address(`fc00::${n}`) })));
			await datapath.swapRings([{ ...ring([]), members: [1, 2, 3].map((n) => ({ address: address(`fc00::${n}`), weight: 1 })) }]);
			await datapath.putVips([vip({ port: 0, flags }), vip({ address: '2001:db8::10', port: 0, flags })]);
			for (let n = 0; n < 20; n++) {
				const v4 = clientFlow(n, { destPort: 1000 + n });
				const v6 = { ...v4, source: address(`2001:db8:1::${n + 1}`), dest: address('2001:db8::10') };
				for (const flow of [v4, v6]) {
					const verdict = datapath.explain(flow);
					assert.equal(send(flow), verdict.backend?.address);
					assert.equal(datapath.explain(flow).via, flags.some((f) => f === 'no_flow_table') ? 'ring' : 'flow-table');
				}
			}
		});
	}

	check('explains an entry of a backend that is down as unusable', async ({ datapath, send }) => {
		await forwarding(datapath, 1);
		send(clientFlow(1));
		datapath.putBackends([put(1, { state: 'down' }), put(2)]);
		await datapath.swapRings([ring([2])]);
		const verdict = datapath.explain(clientFlow(1));
		assert.equal(verdict.entry?.usable, false);
		assert.equal(verdict.entry?.address, backendAddress(1));
		assert.equal(verdict.via, 'ring');
		assert.equal(verdict.generation, 2);
		assert.equal(send(clientFlow(1)), backendAddress(2));
	});
}
