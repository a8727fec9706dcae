// SPDX-License-Identifier: Apache-2.0
// kill -9 at any moment: packets go on being forwarded, and the next start finds a state from which it converges.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type AttachOptions, detach } from '../../src/datapath/adopt.ts';
import { openDatapath } from '../../src/datapath/open.ts';
import { vipKey } from '../../src/model/vip.ts';
import { backendAddress, clientFlow, put, ring, vip } from '../support/datapath-contract.ts';
import { sendThrough, smallOptions, surroundings } from '../support/datapath-subject.ts';
import { whyNoBpf } from '../support/privileged.ts';
import { enterVeth, type Veth, whyNoNamespace } from '../support/veth.ts';

const skip = whyNoBpf() ?? whyNoNamespace() ?? false;
const pinPath = `/sys/fs/bpf/xdpt-kill-${process.pid}`;
const ROUNDS = 8;
const START_TIMEOUT_MS = 30_000;
let veth: Veth;
let victim: ChildProcess | undefined;

before(() => {
	if (skip === false) veth = enterVeth(surroundings().native, 'kill');
});
after(() => {
	victim?.kill('SIGKILL');
	if (skip !== false) return;
	detach(surroundings().native, pinPath, veth.balancer.ifindex);
	veth.remove();
});

/** Starts the victim and waits until it forwards. */
async function startVictim(): Promise<ChildProcess> {
	const { name, ifindex } = veth.balancer;
	const script = fileURLToPath(new URL('../support/swap-forever.ts', import.meta.url));
	const child = spawn(process.execPath, ['--import', 'tsx', script, pinPath, name, String(ifindex)], {
		stdio: ['ignore', 'pipe', 'inherit'],
	});
	victim = child;
	const [line] = (await once(child.stdout ?? child, 'data', { signal: AbortSignal.timeout(START_TIMEOUT_MS) })) as [Buffer];
	assert.equal(line.toString(), 'forwarding\n');
	return child;
}

test('a daemon killed in the middle of changes leaves a state that forwards and converges', { skip, timeout: 120_000 }, async () => {
	const target: AttachOptions = { on: veth.balancer, mode: 'auto', pinPath };
	const flows = Array.from({ length: 30 }, (_, n) => clientFlow(n));
	const always = new Set([1, 2, 3].map(backendAddress));
	for (let round = 0; round < ROUNDS; round++) {
		const child = await startVictim();
		// Any moment is a good one; these spread over the phases of a change, which takes some tens of milliseconds.
		await pause(17 + 11 * round);
		child.kill('SIGKILL');
		await once(child, 'exit');

		const datapath = await openDatapath(surroundings(), smallOptions(), target);
		try {
			assert.equal(datapath.info.adopted, true);
			for (const flow of flows) {
				const place = sendThrough(datapath, flow);
				assert.ok(place !== 'drop' && place !== 'pass', `round ${round}: a flow was ${place}`);
			}
			datapath.putBackends([1, 2, 3].map((n) => put(n)));
			await datapath.swapRings([ring([1, 2, 3])]);
			await datapath.putVips([vip()]);
			const { pools, vips } = datapath.actual();
			const others = [...(pools.get('web')?.backends.keys() ?? [])].filter((a) => !always.has(a));
			await datapath.removeBackends('web', others);
			assert.deepEqual([...vips.keys()], [vipKey(vip())]);
			assert.deepEqual([...(datapath.actual().pools.get('web')?.backends.keys() ?? [])].sort(), [...always].sort());
			for (const flow of flows) {
				const explained = datapath.explain(flow).backend?.address;
				assert.ok(explained && always.has(explained), `round ${round}: a flow is explained as ${explained}`);
				assert.equal(sendThrough(datapath, flow), explained);
			}
		} finally {
			await datapath.close();
		}
	}
});
