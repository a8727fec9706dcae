// SPDX-License-Identifier: Apache-2.0
// Where watches on etcd lose changes without a word: connections cut at any byte of the catching up, answers larger
// than a message may be, flapping under writes, compacted history. After each the source must list what etcd has.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type EtcdHarness, entryAddress, entryKey, SERVICE, withHarness } from '../support/etcd-harness.ts';
import { skipWithoutEtcd } from '../support/etcd-server.ts';
import { until } from '../support/server-process.ts';
import { SnapshotLog } from '../support/snapshot-log.ts';

function lossTest(title: string, body: (h: EtcdHarness) => Promise<void>): void {
	test(title, { skip: skipWithoutEtcd, timeout: 120_000 }, () => withHarness(body));
}

/** While the source is cut off, 4000 entries come and 30 of the first 100 go. */
async function missChanges(h: EtcdHarness, pad = 0): Promise<void> {
	h.proxy.isRefusing = true;
	h.proxy.cutAll();
	await h.putMany(100, 4100, pad);
	for (let n = 0; n < 30; n++) await h.etcd.delete(entryKey(n));
}

lossTest('a connection cut right after the watch was created loses nothing', async (h) => {
	await h.putMany(0, 100);
	const { log } = h.watch();
	await h.converged(log);
	await missChanges(h);
	let cuts = 0;
	const requests = new Map<number, number>();
	h.proxy.onData = (connection, direction, chunk) => {
		const sent = requests.get(connection.number) ?? 0;
		// Five pages of the list, then the request for the watch: all name the end of the range.
		if (direction === 'up' && chunk.includes('/services/web0')) requests.set(connection.number, sent + 1);
		if (direction === 'up' || sent < 6 || cuts >= 3) return;
		cuts++;
		// The answer, which says that the watch exists, is passed on before.
		setImmediate(() => connection.cut());
	};
	h.proxy.isRefusing = false;
	await until('three connections were cut', () => cuts === 3);
	assert.equal(await h.converged(log), 4070);
	await h.etcd.put(entryKey(5000), '10.9.9.9:80');
	assert.equal(await h.converged(log), 4071);
});

for (const bytes of [1, 100, 1000, 30_000, 120_000, 250_000]) {
	lossTest(`connections cut after ${bytes} bytes of catching up lose nothing`, async (h) => {
		await h.putMany(0, 100);
		const { log } = h.watch();
		await h.converged(log);
		await missChanges(h);
		const cut = new Set<number>();
		h.proxy.onData = (connection) => {
			if (cut.size >= 3 || connection.bytes.down < bytes) return;
			cut.add(connection.number);
			connection.cut();
		};
		h.proxy.isRefusing = false;
		await until('three connections were cut', () => cut.size === 3);
		assert.equal(await h.converged(log), 4070);
	});
}

lossTest('missed changes larger than a message may be by default are not lost', async (h) => {
	await h.putMany(0, 100);
	const { log } = h.watch();
	await h.converged(log);
	h.proxy.isRefusing = true;
	h.proxy.cutAll();
	await h.putMany(100, 900, 10_000);
	h.proxy.isRefusing = false;
	assert.equal(await h.converged(log), 900);
});

lossTest('events that pile up behind a slow connection are not lost', async (h) => {
	await h.putMany(0, 10);
	const { log } = h.watch();
	await h.converged(log);
	h.proxy.holdAll();
	await h.putMany(10, 1200, 10_000);
	h.proxy.releaseAll();
	assert.equal(await h.converged(log), 1200);
});

lossTest('60 cuts at random moments under constant writes lose nothing', async (h) => {
	await h.putMany(0, 100);
	const { log, source } = h.watch();
	await h.converged(log);
	let isWriting = true;
	let writes = 0;
	const writer = (async () => {
		while (isWriting) {
			const n = writes++ % 150;
			if (writes % 3 === 0) await h.etcd.delete(entryKey(n));
			else await h.etcd.put(entryKey(n), JSON.stringify({ address: entryAddress(n), port: 80, weight: 1 + (writes % 9) }));
		}
	})();
	for (let cuts = 0; cuts < 60; cuts++) {
		const before = writes;
		// A cut per few writes, at a moment that differs from cut to cut.
		await until('a few writes', () => writes >= before + 3 + ((cuts * 7) % 11));
		h.proxy.cutAll();
	}
	isWriting = false;
	await writer;
	await h.converged(log);
	const listed = await source.read({ service: 'web', tags: [] }, AbortSignal.timeout(10_000));
	await log.seen('the same as a fresh list', (s) => JSON.stringify(s.instances) === JSON.stringify(listed.instances));
});

lossTest('a history that was compacted while the source was away is no history, but loses nothing', async (h) => {
	await h.putMany(0, 10);
	const { log } = h.watch();
	await h.converged(log);
	h.proxy.isRefusing = true;
	h.proxy.cutAll();
	await h.putMany(10, 500);
	await h.etcd.compact(await h.etcd.delete(entryKey(3)));
	h.proxy.isRefusing = false;
	assert.equal(await h.converged(log), 499);
	await h.etcd.put(entryKey(600), '10.9.9.9:80');
	await h.converged(log);
});

lossTest('a compaction between list and watch is noticed, and what follows is not lost', async (h) => {
	await h.putMany(0, 10);
	let held = 0;
	h.proxy.onData = (connection, direction, chunk) => {
		// The list is on its way: keep the request for the watch back, and everything else that the source sends.
		if (direction === 'down' && held === 0 && chunk.includes(SERVICE)) {
			held = connection.number;
			connection.hold('up');
		}
	};
	const { log, source } = h.watch();
	await until('the list was held', () => held > 0);
	await until('the list arrived', () => log.count > 0);
	await h.putMany(10, 20);
	await h.etcd.compact(await h.etcd.put(entryKey(20), '10.9.9.9:80'));
	for (const connection of h.proxy.connections) connection.release('up');
	assert.equal(await h.converged(log), 21);
	await until('the source is up', () => source.status().state === 'up');
	assert.ok(h.proxy.total > 1, 'the fault happened: the first connection was given up');
});

lossTest('thousands of changes in a row arrive completely and in order', async (h) => {
	const { log } = h.watch();
	await h.putMany(0, 2500);
	await h.converged(log);
	await h.etcd.deletePrefix(SERVICE);
	assert.equal(await h.converged(log), 0);
	const kinds = new Set(log.snapshots.flatMap((s) => s.absences.map((a) => a.kind)));
	assert.deepEqual([...kinds], ['deregistered']);
});

lossTest('more entries than fit into one page are listed at one revision', async (h) => {
	await h.putMany(0, 2345);
	let isWriting = true;
	const writer = (async () => {
		// Moves entries from the end to the front: a list that is not of one revision would miss or double some.
		for (let n = 0; isWriting; n++) await h.etcd.put(`${SERVICE}${n % 2 === 0 ? 'a' : 'z'}`, entryAddress(n));
	})();
	try {
		for (let i = 0; i < 5; i++) {
			const read = await h.source().read({ service: 'web', tags: [] }, AbortSignal.timeout(10_000));
			assert.equal(read.instances.filter((x) => !/[az]$/.test(x.id)).length, 2345);
		}
	} finally {
		isWriting = false;
		await writer;
	}
	const log = new SnapshotLog();
	h.source({ tuning: { pageSize: 7 } }).watch({ service: 'web', tags: [] }, log.listener);
	await h.converged(log);
});
