// SPDX-License-Identifier: Apache-2.0
// Packets see a ring whole, old or new, never half of each: while one CPU runs packets, rings are exchanged. The same
// rings written in place do tear, which shows that the test could see it.
//
// Two rings alternate. In the first every slot has rank 0 and rank 0 is backend 1; in the second every slot has rank 1
// and rank 1 is backend 4. A packet that takes its rank from one and its id from the other meets backend 2 or 3.
import assert from 'node:assert/strict';
import { cpus } from 'node:os';
import { suite, test } from 'node:test';
import { address } from '../../src/model/address.ts';
import type { BpfMap } from '../../src/native/addon.d.ts';
import { loadNative } from '../../src/native/binding.ts';
import { LbInstance } from '../support/lb-instance.ts';
import { flowFrame } from '../support/packet-builder.ts';
import { whyNoBpf } from '../support/privileged.ts';
import { TailCaller } from '../support/tail-caller.ts';

const FIRST = { ids: [1, 3], rank: () => 0 };
const SECOND = { ids: [2, 4], rank: () => 1 };
const PACKETS_PER_RUN = 400_000;
const RUNS = 6;

const skip = whyNoBpf() ?? (cpus().length < 2 ? 'a packet and a writer must run at the same time: needs two CPUs' : false);

interface Outcome {
	readonly whole: number;
	readonly torn: number;
	readonly dropped: number;
	readonly writes: number;
}

/** Runs packets on a thread of its own while `write` is called again and again. */
async function hammer(
	write: (lb: LbInstance, live: BpfMap, turn: number) => Promise<void> | void,
	enough: (torn: number) => boolean,
): Promise<Outcome> {
	const native = loadNative();
	const lb = new LbInstance(native);
	const tail = new TailCaller(native);
	try {
		lb.setVips([{ address: '10.200.1.1', port: 80, pool: 1, flags: ['no_flow_table'] }]);
		for (let id = 1; id <= 4; id++) lb.setBackend(id, `10.0.0.${id}`);
		const live = lb.setRing(1, FIRST.ids, FIRST.rank);
		const frame = flowFrame({ source: address('192.168.1.1'), dest: address('10.200.1.1'), sourcePort: 1, destPort: 80 });
		tail.setFrame(frame, { flows: 65536 });
		tail.setTarget(lb.program);
		let writes = 0;
		for (let run = 0; run < RUNS && !enough(tornOf(lb)); run++) {
			let running = true;
			const packets = tail
				.program('wrap')
				.testRunAsync(frame, { repeat: PACKETS_PER_RUN })
				.finally(() => {
					running = false;
				});
			while (running) {
				await write(lb, live, writes++);
				await new Promise((resolve) => setImmediate(resolve));
			}
			await packets;
		}
		const seen = (id: number) => Number(lb.counters.backend(id).packets);
		const dropped = Number(Object.values(lb.counters.drops()).reduce((sum, n) => sum + n, 0n));
		return { whole: seen(1) + seen(4), torn: tornOf(lb), dropped, writes };
	} finally {
		tail.close();
		lb.close();
	}
}

function tornOf(lb: LbInstance): number {
	return Number(lb.counters.backend(2).packets + lb.counters.backend(3).packets);
}

suite('rings under change', { skip }, () => {
	test('are never seen half exchanged', async (t) => {
		const outcome = await hammer(
			async (lb, _live, turn) => {
				const { ids, rank } = turn % 2 ? FIRST : SECOND;
				const next = lb.newRing(ids, rank);
				await lb.maps.rings.updateAsync(Uint8Array.of(1, 0, 0, 0), new Uint8Array(Uint32Array.of(next.fd).buffer));
				next.close();
			},
			() => false,
		);
		t.diagnostic(JSON.stringify(outcome));
		assert.equal(outcome.torn, 0);
		assert.equal(outcome.dropped, 0, 'no slot is ever empty');
		assert.equal(outcome.whole, RUNS * PACKETS_PER_RUN);
		assert.ok(outcome.writes >= 10, `${outcome.writes} exchanges`);
	});

	test('would be, if they were written in place', async (t) => {
		let values: Uint8Array[] = [];
		const outcome = await hammer(
			(lb, live) => {
				if (values.length === 0) values = [SECOND, FIRST].map(({ ids, rank }) => lb.ringValue(ids, rank));
				for (let i = 0; i < 25; i++) for (const value of values) live.update(new Uint8Array(4), value);
			},
			(torn) => torn > 0,
		);
		t.diagnostic(JSON.stringify(outcome));
		assert.ok(outcome.torn > 0);
	});
});
