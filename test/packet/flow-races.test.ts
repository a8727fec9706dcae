// SPDX-License-Identifier: Apache-2.0
// The flow table has no locks. Two CPUs that insert and evict in the same few buckets may lose entries, but never may
// one flow be given another flow's backend: an entry whose halves come from two writers must match no flow.
import assert from 'node:assert/strict';
import { cpus } from 'node:os';
import { suite, test } from 'node:test';
import { address } from '../../src/model/address.ts';
import { loadNative } from '../../src/native/binding.ts';
import { flowSlot, KATRAN_SEEDS } from '../../src/ring/flow-hash.ts';
import { LbInstance } from '../support/lb-instance.ts';
import { flowFrame } from '../support/packet-builder.ts';
import { whyNoBpf } from '../support/privileged.ts';
import { TailCaller } from '../support/tail-caller.ts';

const BACKENDS = 61;
const ROUNDS = 8;
const PACKETS = 300_000;
const SOURCE_PORT = 31337;
const DEST_PORT = 80;
const FLOW_MIX = 0x5bd1e995;

const skip = whyNoBpf() ?? (cpus().length < 2 ? 'two CPUs must race: needs two' : false);

interface Entry {
	readonly source: Uint8Array;
	readonly sourcePort: number;
	readonly destPort: number;
	readonly backend: number;
}

/** The flow that an IPv4 entry would be found by. */
function decode(word0: bigint, word1: bigint): Entry {
	const backend = Number((word1 >> 16n) & 0x7fffffn);
	const mix = BigInt((Math.imul(backend, FLOW_MIX) + Number(word1 & 0xffffn)) >>> 0) << 32n;
	const bytes = new Uint8Array(BigUint64Array.of(word0 ^ mix).buffer);
	const port = (at: number) => ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
	return { source: bytes.subarray(0, 4), sourcePort: port(4), destPort: port(6), backend };
}

suite('flow table under two CPUs', { skip }, () => {
	test('never gives a flow the backend of another', async (t) => {
		const native = loadNative();
		const lb = new LbInstance(native, { options: { flowEntries: 8 * 4 } });
		const tails = [new TailCaller(native), new TailCaller(native)];
		try {
			lb.setVips([{ address: '10.200.1.1', port: DEST_PORT, pool: 1 }]);
			const ids = Array.from({ length: BACKENDS }, (_, i) => i + 1);
			for (const id of ids) lb.setBackend(id, `10.0.0.${id}`);
			lb.setRing(1, ids, (slot) => slot % BACKENDS);
			const frame = flowFrame({
				source: address('192.168.1.1'),
				dest: address('10.200.1.1'),
				sourcePort: SOURCE_PORT,
				destPort: DEST_PORT,
			});
			let [checked, torn] = [0, 0];
			for (let round = 0; round < ROUNDS; round++) {
				const runs = tails.map((tail, i) => {
					tail.setFrame(frame, { flows: 256, base: 128 * i });
					tail.setTarget(lb.program);
					return tail.program('wrap').testRunAsync(frame, { repeat: PACKETS });
				});
				await Promise.all(runs);
				for (let at = 0; at < lb.flows.length; at += 2) {
					const [word0 = 0n, word1 = 0n] = [lb.flows[at], lb.flows[at + 1]];
					if (word1 === 0n) continue;
					const entry = decode(word0, word1);
					if (entry.sourcePort !== SOURCE_PORT || entry.destPort !== DEST_PORT) {
						torn++;
						continue;
					}
					const slot = flowSlot(entry, lb.options.limits.ringSize, KATRAN_SEEDS);
					assert.equal(entry.backend, 1 + (slot % BACKENDS), `the flow of ${entry.source.join('.')}`);
					checked++;
				}
			}
			t.diagnostic(`${checked} entries belong to their flows, ${torn} match none`);
			assert.ok(checked > 0);
			assert.equal(Number(lb.counters.vip(1).packets), 2 * ROUNDS * PACKETS);
		} finally {
			for (const tail of tails) tail.close();
			lb.close();
		}
	});
});
