// SPDX-License-Identifier: Apache-2.0
// The fake passes the contract of every datapath, and the faulty twin injects what it says.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isXdpilotError } from '../../src/errors.ts';
import { backendAddress, datapathContract, forwarding, put, ring } from '../support/datapath-contract.ts';
import { FakeDatapath } from '../support/fake-datapath.ts';
import { faultyDatapath } from '../support/faulty-datapath.ts';
import { VirtualEnv } from '../support/virtual-env.ts';

datapathContract('fake', async (limits) => {
	const datapath = new FakeDatapath({ limits });
	return { datapath, send: (flow, packet) => datapath.send(flow, packet), dispose: () => datapath.close() };
});

test('the fake forgets a UDP flow after 30 seconds of silence', async () => {
	const env = new VirtualEnv();
	const datapath = new FakeDatapath({ env });
	await forwarding(datapath, 2);
	const flow = { source: backendAddress(9), sourcePort: 5, dest: backendAddress(8), destPort: 53, protocol: 'udp' } as const;
	await datapath.putVips([{ prefix: { address: flow.dest, length: 32 }, port: 53, protocol: 'udp', pool: 'web', flags: [] }]);
	datapath.send(flow);
	await env.advance(30_001);
	assert.equal(datapath.explain(flow).entry?.usable, false);
});

test('the fake holds a swap back at its gate', async () => {
	let open: () => void = () => undefined;
	const gate = new Promise<void>((resolve) => {
		open = resolve;
	});
	const datapath = new FakeDatapath({ gate: () => gate });
	datapath.putBackends([put(1)]);
	const swap = datapath.swapRings([ring([1])]);
	await new Promise((resolve) => setImmediate(resolve));
	assert.equal(datapath.actual().pools.get('web')?.ring, null);
	open();
	assert.equal((await swap).length, 1);
});

test('faults strike before and after an operation, and stop when told', async () => {
	const env = new VirtualEnv(7);
	const inner = new FakeDatapath();
	const [datapath, faults] = faultyDatapath(inner, { probability: 0.8, random: () => env.random() });
	const attempt = async () => {
		try {
			datapath.putBackends([put(1), put(2)]);
			await datapath.swapRings([ring([1, 2])]);
		} catch (e) {
			assert.ok(isXdpilotError(e) && e.code === 'E_DATAPATH' && e.retryable);
		}
	};
	for (let i = 0; i < 20; i++) await attempt();
	assert.ok(faults.injected.includes('putBackends before') && faults.injected.includes('putBackends after'));
	assert.ok(faults.injected.some((f) => f.startsWith('swapRings')));
	faults.stop();
	const count = faults.injected.length;
	await attempt();
	assert.equal(faults.injected.length, count);
	assert.equal(datapath.actual().pools.get('web')?.backends.get(backendAddress(1))?.weight, 1);
});
