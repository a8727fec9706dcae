// SPDX-License-Identifier: Apache-2.0
// Calls everything of the addon that allocates, in success and in failure, then ends in good order: scripts/sanitize.mjs
// runs it under the leak checker. Plain JavaScript: no compiler's child process, no other addon.
import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { machine } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const [dir] = process.argv.slice(2);
const native = createRequire(import.meta.url)(process.env.XDPILOT_NATIVE);

const ROUNDS = 20;
const fixture = (name) => {
	const out = join(dir, `${name}.o`);
	const source = fileURLToPath(new URL(`../fixtures/${name}.bpf.c`, import.meta.url));
	const env = { ...process.env, LD_PRELOAD: '' };
	execFileSync('clang', ['-O2', '-g', '-target', 'bpf', '-I', `/usr/include/${machine()}-linux-gnu`, '-c', source, '-o', out], { env });
	return out;
};
const refused = (call) => {
	try {
		call();
	} catch {
		return;
	}
	throw new Error(`${call} should have failed`);
};
const objects = process.getuid() === 0 ? [fixture('native'), fixture('native-refused')] : [];
const members = { version: 2, hashes: BigUint64Array.of(1n, 2n, 3n), weights: Uint32Array.of(1, 2, 3) };

async function rings() {
	native.buildRing(members, 65537);
	await native.buildRingsAsync([members, { ...members, version: 1, ranks: Uint16Array.of(3, 2, 1) }], 4093);
	refused(() => native.buildRing(members, 4));
	await native.buildRingsAsync([{}], 7).catch(() => {});
	const table = new ArrayBuffer(1024);
	await native.sweepFlowsAsync(table, 1n, BigUint64Array.of(1n));
	await native.expireFlowsAsync(table, 1, 1);
	await native.countFlowsAsync(table, 10);
	refused(() => native.peerCredentials(1 << 20));
}

async function maps() {
	const spec = { name: 'leak', type: 2, keySize: 4, valueSize: 8, maxEntries: 64, flags: 1 << 10 };
	const [key, value] = [new Uint8Array(4), new Uint8Array(8)];
	const map = native.BpfMap.create(spec);
	for (const filled of await native.BpfMap.createFilledAsync(spec, new Uint8Array(24))) filled.close();
	await native.BpfMap.createFilledAsync({ ...spec, keySize: 8 }, value).catch(() => {});
	map.update(key, value);
	map.lookup(key);
	map.nextKey();
	map.info();
	map.mmap();
	await map.updateAsync(key, value);
	await map.updateBatchAsync(key, value);
	await map.updateParallelAsync(new Uint8Array(256), new Uint8Array(512), 4);
	await map.deleteAsync(key).catch(() => {});
	const outer = native.BpfMap.create({ ...spec, type: 12, valueSize: 4, flags: 0, inner: map });
	outer.close();
	map.close();
	refused(() => map.info());
	refused(() => native.BpfMap.open('/sys/fs/bpf/none'));
	refused(() => native.BpfMap.create({ ...spec, keySize: 8 }));
}

async function programs([good, bad]) {
	const object = native.BpfObject.open(good);
	object.rodata();
	object.resizeMap('outer', { maxEntries: 8, innerValueSize: 64 });
	void object.maps;
	void object.programs;
	object.load();
	const answer = object.program('answer');
	object.map('outer').close();
	object.close();
	answer.info();
	const frame = new Uint8Array(60);
	answer.testRun(frame, { ifindex: 1, repeat: 2 });
	await answer.testRunAsync(frame);
	answer.testRunMany(Uint8Array.of(60, 0, 0, 0, ...frame));
	refused(() => answer.testRun(new Uint8Array(1)));
	answer.close();
	const wrong = native.BpfObject.open(bad);
	refused(() => wrong.load());
	wrong.close();
	refused(() => native.BpfObject.open('/dev/null'));
}

for (let i = 0; i < ROUNDS; i++) {
	await rings();
	if (objects.length > 0) {
		await maps();
		await programs(objects);
	}
}
