// SPDX-License-Identifier: Apache-2.0
// The real datapath against its fake: the same random operations, the same state, the same fate of every packet. A
// restart may come between any two operations, and must not show.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { detach } from '../../src/datapath/adopt.ts';
import type { BpfDatapath } from '../../src/datapath/bpf-datapath.ts';
import type { ActualState, Datapath } from '../../src/datapath/datapath.ts';
import { openDatapath } from '../../src/datapath/open.ts';
import { isXdpilotError } from '../../src/errors.ts';
import type { BackendState } from '../../src/model/backend.ts';
import type { Vip } from '../../src/model/vip.ts';
import { backendAddress, clientFlow, put, ring, vip } from '../support/datapath-contract.ts';
import { sendThrough, smallOptions, surroundings } from '../support/datapath-subject.ts';
import { FakeDatapath } from '../support/fake-datapath.ts';
import { whyNoBpf } from '../support/privileged.ts';
import { enterVeth, type Veth, whyNoNamespace } from '../support/veth.ts';

const skip = whyNoBpf() ?? whyNoNamespace() ?? false;
const pinPath = `/sys/fs/bpf/xdpt-model-${process.pid}`;
const LIMITS = { ringSize: 1009, maxBackendsPerPool: 6, maxPools: 3, maxBackends: 10, maxVips: 3 };
const RUNS = 25;
const OPERATIONS = 40;
let veth: Veth;

before(() => {
	if (skip === false) veth = enterVeth(surroundings().native, 'model');
});
after(() => {
	if (skip !== false) return;
	detach(surroundings().native, pinPath, veth.balancer.ifindex);
	veth.remove();
});

type Operation =
	| { readonly kind: 'put'; readonly pool: string; readonly n: number; readonly state: BackendState }
	| { readonly kind: 'swap'; readonly pool: string; readonly members: readonly number[]; readonly weight: number }
	| { readonly kind: 'vips'; readonly vips: readonly Vip[] }
	| { readonly kind: 'remove'; readonly pool: string; readonly n: number }
	| { readonly kind: 'remove-pool'; readonly pool: string }
	| { readonly kind: 'send'; readonly n: number; readonly port: number; readonly syn: boolean }
	| { readonly kind: 'restart' };

const pool = fc.constantFrom('a', 'b', 'c', 'd');
const n = fc.integer({ min: 1, max: 6 });
const port = fc.constantFrom(80, 443, 8443);
const anyVip = fc.record({ port: fc.constantFrom(0, 80, 443), pool }).map((v) => vip(v));

const operation: fc.Arbitrary<Operation> = fc.oneof(
	{ weight: 4, arbitrary: fc.record({ kind: fc.constant('put' as const), pool, n, state: fc.constantFrom('active', 'draining', 'down') }) },
	{
		weight: 4,
		arbitrary: fc.record({
			kind: fc.constant('swap' as const),
			pool,
			members: fc.uniqueArray(n, { maxLength: 4 }),
			weight: fc.integer({ min: 1, max: 3 }),
		}),
	},
	{ weight: 2, arbitrary: fc.record({ kind: fc.constant('vips' as const), vips: fc.array(anyVip, { maxLength: 4 }) }) },
	{ weight: 2, arbitrary: fc.record({ kind: fc.constant('remove' as const), pool, n }) },
	{ weight: 1, arbitrary: fc.record({ kind: fc.constant('remove-pool' as const), pool }) },
	{ weight: 6, arbitrary: fc.record({ kind: fc.constant('send' as const), n, port, syn: fc.boolean() }) },
	{ weight: 1, arbitrary: fc.constant({ kind: 'restart' } as const) },
);

const open = (): Promise<BpfDatapath> => openDatapath(surroundings(), smallOptions(LIMITS), { on: veth.balancer, mode: 'native', pinPath });

/** What came of it: a value, or the code of its error. */
async function outcome(work: () => unknown): Promise<unknown> {
	try {
		return await work();
	} catch (e) {
		if (isXdpilotError(e)) return e.code;
		throw e;
	}
}

function perform(datapath: Datapath, op: Operation): unknown {
	switch (op.kind) {
		case 'put':
			return datapath.putBackends([put(op.n, { pool: op.pool, state: op.state })]);
		case 'swap':
			return datapath.swapRings([ring(op.members, { pool: op.pool, weight: op.weight })]);
		case 'vips':
			return datapath.putVips(op.vips);
		case 'remove':
			return datapath.removeBackends(op.pool, [backendAddress(op.n)]);
		case 'remove-pool':
			return datapath.removePools([op.pool]);
		default:
			return undefined;
	}
}

/** Everything but digests of inputs, which name ids. */
function shown({ pools, vips }: ActualState): unknown {
	const text = [...pools.values()].map((p) => ({
		...p,
		ring: p.ring && { ...p.ring, inputs: '' },
		backends: [...p.backends.values()].sort(byAddress),
	}));
	return { pools: text.sort((a, b) => (a.name < b.name ? -1 : 1)), vips: [...vips.entries()].sort() };
}

const byAddress = (a: { address: string }, b: { address: string }) => (a.address < b.address ? -1 : 1);

test('random operations have the same effect on the real datapath and on its fake', { skip, timeout: 240_000 }, async () => {
	await fc.assert(
		fc.asyncProperty(fc.array(operation, { minLength: OPERATIONS, maxLength: OPERATIONS, size: 'max' }), async (operations) => {
			const fake = new FakeDatapath({ limits: LIMITS });
			let real = await open();
			try {
				for (const op of operations) {
					if (op.kind === 'restart') {
						await real.close();
						real = await open();
					} else if (op.kind === 'send') {
						const flow = clientFlow(op.n, { destPort: op.port });
						const [mine, its] = [fake.explain(flow), real.explain(flow)];
						assert.deepEqual({ ...its, entry: its.entry?.address }, { ...mine, entry: mine.entry?.address });
						assert.equal(sendThrough(real, flow, op), fake.send(flow, op));
					} else {
						assert.deepEqual(await outcome(() => perform(real, op)), await outcome(() => perform(fake, op)), op.kind);
					}
					assert.deepEqual(shown(real.actual()), shown(fake.actual()), op.kind);
				}
			} finally {
				await real.close();
				detach(surroundings().native, pinPath, veth.balancer.ifindex);
			}
		}),
		{ numRuns: RUNS, includeErrorInReport: true },
	);
});
