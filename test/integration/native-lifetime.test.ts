// SPDX-License-Identifier: Apache-2.0
// What handles leave behind: nothing, whether they are closed, collected, or their thread or process ends, also while
// work is under way; and memory that was mapped stays as long as anyone can reach it.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { before, describe, test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import { loadNative, type NativeAddon, nativePath } from '../../src/native/binding.ts';
import { compileBpf, MAP, openFds, scratch, u32, whyNoPrograms } from '../support/native-fixtures.ts';

const skip = whyNoPrograms();
const dir = scratch();
const WORKERS = 200;
const AT_ONCE = 4;

/** Each takes every kind of handle, and ends without closing one. `end` is how. */
const workerCode = (end: 'return' | 'pending' | 'exit') => `
	const { workerData: { path, object } } = require('node:worker_threads');
	const n = require(path);
	const spec = { name: 'worker', type: 2, keySize: 4, valueSize: 8, maxEntries: 64, flags: 1 << 10 };
	const map = n.BpfMap.create(spec);
	const view = new Uint32Array(map.mmap());
	view[0] = 1;
	const o = n.BpfObject.open(object);
	o.load();
	o.rodata();
	globalThis.kept = [map, o, o.program('answer'), o.map('outer'), view];
	const outer = n.BpfMap.create({ ...spec, type: 12, valueSize: 4, flags: 0, inner: map });
	const pending = () => [
		outer.updateAsync(new Uint8Array(4), new Uint8Array(Uint32Array.of(map.fd).buffer)),
		n.buildRingsAsync(Array.from({ length: 4 }, () => ({ version: 2, hashes: BigUint64Array.of(1n, 2n), weights: Uint32Array.of(1, 3) })), 65537),
		n.countFlowsAsync(map.mmap(), 8),
	];
	if (${JSON.stringify(end)} === 'pending') pending();
	if (${JSON.stringify(end)} === 'exit') { pending(); process.exit(0); }
	try { n.BpfMap.open('/sys/fs/bpf/none'); } catch {}
`;

describe('handles', { skip }, () => {
	let native: NativeAddon;
	let object: string;
	const gc = () => {
		setFlagsFromString('--expose-gc');
		runInNewContext('gc')();
	};
	const run = (code: string) =>
		new Promise<void>((resolve, reject) => {
			const worker = new Worker(code, { eval: true, workerData: { path: nativePath(), object } });
			worker.once('error', reject);
			worker.once('exit', () => resolve());
		});
	const runMany = async (count: number, code: string) => {
		let left = count;
		const lane = async () => {
			while (left-- > 0) await run(code);
		};
		await Promise.all(Array.from({ length: AT_ONCE }, lane));
	};
	/** Finalisers run some turns after a collection. */
	const collected = async (fds: number) => {
		for (let i = 0; i < 100 && openFds() > fds; i++) {
			gc();
			await new Promise((r) => setImmediate(r));
		}
		return openFds();
	};

	before(() => {
		native = loadNative();
		object = compileBpf('native', dir);
	});

	for (const [end, count] of [
		['return', WORKERS],
		['pending', 24],
		['exit', 24],
	] as const) {
		test(`${count} workers that end by ${end} leave no descriptor`, { timeout: 120_000 }, async () => {
			await runMany(AT_ONCE, workerCode(end));
			const start = await collected(0);
			await runMany(count, workerCode(end));
			assert.ok((await collected(start)) <= start, `${start} descriptors before, ${openFds()} after`);
		});
	}

	test('a terminated worker leaves no descriptor', { timeout: 60_000 }, async () => {
		const code = `${workerCode('pending')}; require('node:worker_threads').parentPort.postMessage('up'); setInterval(() => {}, 1000);`;
		const terminate = async () => {
			const worker = new Worker(code, { eval: true, workerData: { path: nativePath(), object } });
			await new Promise((resolve) => worker.once('message', resolve));
			await worker.terminate();
		};
		await terminate();
		const start = await collected(0);
		for (let i = 0; i < 10; i++) await terminate();
		assert.ok((await collected(start)) <= start);
	});

	test('handles that nobody holds any more are closed by the collector', async () => {
		const start = await collected(0);
		for (let i = 0; i < 100; i++)
			native.BpfMap.create({ name: 'lost', type: MAP.array, keySize: 4, valueSize: 4, maxEntries: 1, flags: 0 });
		assert.ok(openFds() > start);
		assert.equal(await collected(start), start);
	});

	test('mapped memory stays after close and collection of its map', async () => {
		const map = native.BpfMap.create({
			name: 'mapped',
			type: MAP.array,
			keySize: 4,
			valueSize: 8,
			maxEntries: 1 << 16,
			flags: MAP.mmapable,
		});
		map.update(u32(65535), new Uint8Array(8).fill(7));
		const memory = new Uint8Array(map.mmap());
		map.close();
		gc();
		await new Promise((r) => setImmediate(r));
		gc();
		assert.equal(memory.at(-1), 7);
		memory.fill(9);
		assert.equal(memory.at(-1), 9);
	});

	test('mapped memory that nobody holds any more is unmapped', async () => {
		const map = native.BpfMap.create({ name: 'big', type: MAP.array, keySize: 4, valueSize: 8, maxEntries: 1 << 20, flags: MAP.mmapable });
		const mappings = () => maps().length;
		const start = mappings();
		for (let i = 0; i < 20; i++) map.mmap();
		assert.ok(mappings() > start);
		for (let i = 0; i < 100 && mappings() > start; i++) {
			gc();
			await new Promise((r) => setImmediate(r));
		}
		assert.ok(mappings() <= start, `${start} mappings before, ${mappings()} after`);
		map.close();
	});

	test('memory that is being scanned is not unmapped under the scan', async () => {
		const scan = () => {
			const map = native.BpfMap.create({
				name: 'scanned',
				type: MAP.array,
				keySize: 4,
				valueSize: 16,
				maxEntries: 1 << 16,
				flags: MAP.mmapable,
			});
			const scans = Array.from({ length: 8 }, () => native.expireFlowsAsync(map.mmap(), 0, 1));
			map.close();
			return scans;
		};
		const scans = scan();
		gc();
		assert.deepEqual(await Promise.all(scans), new Array(8).fill(0));
	});

	test('a process that ends with work under way ends cleanly', () => {
		const code = workerCode('exit')
			.replace('workerData: { path, object }', 'a')
			.replace(/= require\('node:worker_threads'\)/, '= {}');
		const whole = `const path = ${JSON.stringify(nativePath())}, object = ${JSON.stringify(object)};${code}`;
		const done = spawnSync(process.execPath, ['-e', whole], { encoding: 'utf8', timeout: 30_000 });
		assert.deepEqual([done.status, done.signal, done.stderr], [0, null, '']);
	});
});

/** Mappings of BPF maps in this process. */
function maps(): string[] {
	return spawnSync('grep', ['bpf-map', `/proc/${process.pid}/maps`], { encoding: 'utf8' })
		.stdout.split('\n')
		.filter(Boolean);
}
