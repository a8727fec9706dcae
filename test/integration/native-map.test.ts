// SPDX-License-Identifier: Apache-2.0
// BpfMap on real maps: every call's success and each way in which it fails.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import type { BpfMap, MapSpec } from '../../src/native/addon.d.ts';
import { loadNative, type NativeAddon } from '../../src/native/binding.ts';
import { MAP, openFds, readU32, scratch, scratchPins, u32, u64, whyNoMaps } from '../support/native-fixtures.ts';

const skip = whyNoMaps();
const pins = skip ? '' : scratchPins();
const dir = scratch();

describe('BpfMap', { skip }, () => {
	let native: NativeAddon;
	const create = (spec: Partial<MapSpec> & { inner?: BpfMap }) =>
		native.BpfMap.create({ name: 'test', type: MAP.array, keySize: 4, valueSize: 8, maxEntries: 4, flags: 0, ...spec });
	const hash = () => create({ type: MAP.hash });
	const closed = () => {
		const map = hash();
		map.close();
		return map;
	};

	before(() => {
		native = loadNative();
	});

	test('a new map has the shape asked for', () => {
		const map = create({ name: 'shape', type: MAP.hash, keySize: 3, valueSize: 5, maxEntries: 7, flags: MAP.noPrealloc });
		const { id, ...info } = map.info();
		assert.deepEqual(info, { name: 'shape', type: MAP.hash, keySize: 3, valueSize: 5, maxEntries: 7, flags: MAP.noPrealloc });
		assert.ok(id > 0);
		assert.ok(map.fd > 2);
		map.close();
	});

	test('a map that the kernel refuses is an error with its name', () => {
		const expected = {
			code: 'EINVAL',
			errno: -22,
			syscall: 'bpf(BPF_MAP_CREATE)',
			map: 'bad',
			message: /^EINVAL: invalid argument, .*'bad'$/,
		};
		assert.throws(() => create({ name: 'bad', type: MAP.array, keySize: 8 }), expected);
	});

	test('a value that was written is read back', () => {
		const map = hash();
		map.update(u32(1), u64(7));
		map.update(u32(1), u64(8));
		assert.deepEqual(map.lookup(u32(1)), u64(8));
		assert.equal(map.lookup(u32(2)), undefined);
	});

	test('update flags are the kernel\u2019s', () => {
		const map = hash();
		const syscall = 'bpf(BPF_MAP_UPDATE_ELEM)';
		assert.throws(() => map.update(u32(1), u64(1), 2), { code: 'ENOENT', syscall, map: 'test' });
		map.update(u32(1), u64(1), 1);
		assert.throws(() => map.update(u32(1), u64(1), 1), { code: 'EEXIST', syscall });
	});

	test('a full hash says E2BIG', () => {
		const map = create({ type: MAP.hash, maxEntries: 1 });
		map.update(u32(1), u64(1));
		assert.throws(() => map.update(u32(2), u64(1)), { code: 'E2BIG', errno: -7, syscall: 'bpf(BPF_MAP_UPDATE_ELEM)', map: 'test' });
	});

	test('deleting says whether there was something', async () => {
		const map = hash();
		map.update(u32(1), u64(1));
		map.update(u32(2), u64(1));
		assert.deepEqual([map.delete(u32(1)), map.delete(u32(1))], [true, false]);
		assert.deepEqual([await map.deleteAsync(u32(2)), await map.deleteAsync(u32(2))], [true, false]);
		assert.throws(() => create({}).delete(u32(0)), { code: 'EINVAL', syscall: 'bpf(BPF_MAP_DELETE_ELEM)' });
		await assert.rejects(create({}).deleteAsync(u32(0)), { code: 'EINVAL', syscall: 'bpf(BPF_MAP_DELETE_ELEM)', map: 'test' });
	});

	test('keys are visited once each', () => {
		const map = hash();
		for (const n of [1, 2, 3]) map.update(u32(n), u64(n));
		const seen: (number | undefined)[] = [];
		for (let key = map.nextKey(); key; key = map.nextKey(key)) seen.push(readU32(key));
		assert.deepEqual(seen.sort(), [1, 2, 3]);
		assert.equal(hash().nextKey(), undefined);
	});

	test('a value of a per-CPU map has all possible CPUs, eight bytes aligned', () => {
		const map = create({ type: MAP.percpuArray, valueSize: 4 });
		const value = new Uint8Array(8 * native.possibleCpus());
		value[0] = 9;
		map.update(u32(0), value);
		assert.deepEqual(map.lookup(u32(0)), value);
		assert.throws(() => map.update(u32(0), u32(1)), TypeError);
	});

	test('a map of maps takes descriptors and gives ids', () => {
		const inner = create({ name: 'inner' });
		const outer = create({ name: 'outer', type: MAP.arrayOfMaps, valueSize: 4, inner });
		assert.equal(outer.lookup(u32(0)), undefined);
		outer.update(u32(0), u32(inner.fd));
		assert.equal(readU32(outer.lookup(u32(0))), inner.info().id);
	});

	test('an inner map of another shape is refused', () => {
		const outer = create({ type: MAP.arrayOfMaps, valueSize: 4, inner: create({}) });
		const other = create({ valueSize: 16 });
		assert.throws(() => outer.update(u32(0), u32(other.fd)), { code: 'EINVAL' });
		assert.throws(() => create({ type: MAP.arrayOfMaps, valueSize: 4, inner: closed() }), { code: 'EBADF' });
		assert.throws(() => create({ type: MAP.arrayOfMaps, valueSize: 4, inner: {} as BpfMap }), /inner must be a BpfMap/);
	});

	test('many arrays are made and filled at once, in order', async () => {
		const spec = { name: 'ring', type: MAP.array, keySize: 4, valueSize: 131080, maxEntries: 1, flags: 0 };
		const values = new Uint8Array(20 * spec.valueSize);
		for (let i = 0; i < 20; i++) values.fill(i + 1, i * spec.valueSize, (i + 1) * spec.valueSize);
		const maps = await native.BpfMap.createFilledAsync(spec, values);
		for (const [i, map] of maps.entries())
			assert.deepEqual(map.lookup(u32(0)), values.subarray(i * spec.valueSize, (i + 1) * spec.valueSize));
		assert.equal(new Set(maps.map((m) => m.info().id)).size, 20);
		for (const map of maps) map.close();
		assert.deepEqual(await native.BpfMap.createFilledAsync(spec, new Uint8Array(0)), []);
	});

	test('filled arrays that can\u2019t be made leave nothing behind', async () => {
		const spec = { name: 'bad', type: MAP.array, keySize: 4, valueSize: 8, maxEntries: 1, flags: 0 };
		const fds = openFds();
		const refused = { code: 'EINVAL', syscall: 'bpf(BPF_MAP_CREATE)', map: 'bad', done: 0 };
		await assert.rejects(native.BpfMap.createFilledAsync({ ...spec, flags: 1 << 30 }, new Uint8Array(8)), refused);
		for (const call of [
			() => native.BpfMap.createFilledAsync(spec, new Uint8Array(9)),
			() => native.BpfMap.createFilledAsync({ ...spec, valueSize: 0 }, new Uint8Array(0)),
			() => native.BpfMap.createFilledAsync({ ...spec, type: MAP.percpuArray }, new Uint8Array(8)),
			() => native.BpfMap.createFilledAsync(spec, 'bytes' as never),
		])
			await assert.rejects(call(), TypeError, String(call));
		assert.equal(openFds(), fds);
	});

	test('one batch fills many slots', async () => {
		const map = create({ maxEntries: 1000 });
		const indexes = Array.from({ length: 1000 }, (_, i) => i);
		await map.updateBatchAsync(u32(...indexes), u64(...indexes.map((i) => 3 * i)));
		for (const i of [0, 1, 999]) assert.deepEqual(map.lookup(u32(i)), u64(3 * i));
		await map.updateBatchAsync(new Uint8Array(0), new Uint8Array(0));
	});

	test('one batch swaps many inner maps', async () => {
		const inner = Array.from({ length: 64 }, (_, i) => create({ name: `ring${i}`, maxEntries: 1, valueSize: 131080 }));
		const [template] = inner;
		assert.ok(template);
		const outer = create({ type: MAP.arrayOfMaps, valueSize: 4, maxEntries: 64, inner: template });
		await outer.updateBatchAsync(u32(...inner.keys()), u32(...inner.map((m) => m.fd)));
		assert.deepEqual(
			inner.map((_, i) => readU32(outer.lookup(u32(i)))),
			inner.map((m) => m.info().id),
		);
	});

	test('a batch that fails midway says how far it came', async () => {
		const map = create({ maxEntries: 4 });
		await assert.rejects(map.updateBatchAsync(u32(0, 1, 9), u64(1, 2, 3)), {
			code: 'E2BIG',
			syscall: 'bpf(BPF_MAP_UPDATE_BATCH)',
			map: 'test',
			done: 2,
		});
		assert.deepEqual(map.lookup(u32(1)), u64(2));
	});

	test('threads of its own write all elements, and report the first that fails', async () => {
		const map = create({ maxEntries: 500 });
		const indexes = Array.from({ length: 500 }, (_, i) => i);
		await map.updateParallelAsync(u32(...indexes), u64(...indexes.map((i) => i + 1)), 8);
		for (const i of indexes) assert.deepEqual(map.lookup(u32(i)), u64(i + 1));
		const failure = { code: 'E2BIG', syscall: 'bpf(BPF_MAP_UPDATE_ELEM)', map: 'test' };
		await assert.rejects(map.updateParallelAsync(u32(...indexes, 500), u64(...indexes, 0), 64), failure);
		await map.updateParallelAsync(u32(3), u64(77), 1);
		assert.deepEqual(map.lookup(u32(3)), u64(77));
	});

	test('an asynchronous update takes flags, and its input at the time of the call', async () => {
		const map = hash();
		const value = u64(5);
		const done = map.updateAsync(u32(1), value, 1);
		value.fill(0xff);
		await done;
		assert.deepEqual(map.lookup(u32(1)), u64(5));
		await assert.rejects(map.updateAsync(u32(1), value, 1), { code: 'EEXIST', map: 'test' });
	});

	test('an asynchronous update outlives a close of its map', async () => {
		const map = create({ maxEntries: 1 });
		map.pin(join(pins, 'async'));
		const done = map.updateAsync(u32(0), u64(42));
		map.close();
		await done;
		assert.deepEqual(native.BpfMap.open(join(pins, 'async')).lookup(u32(0)), u64(42));
	});

	test('mapped memory is the map', () => {
		const map = create({ flags: MAP.mmapable, maxEntries: 3 });
		const memory = new BigUint64Array(map.mmap());
		assert.equal(memory.length, 3);
		memory[2] = 5n;
		assert.deepEqual(map.lookup(u32(2)), u64(5));
		map.update(u32(0), u64(6));
		assert.equal(memory[0], 6n);
		const readOnly = new BigUint64Array(map.mmap({ readOnly: true }));
		assert.deepEqual([...readOnly], [6n, 0n, 5n]);
	});

	test('a map that can\u2019t be mapped says so', () => {
		assert.throws(() => create({}).mmap(), { code: 'EINVAL', syscall: 'mmap', map: 'test' });
		assert.throws(() => hash().mmap(), { code: 'EINVAL', syscall: 'mmap', map: 'test' });
	});

	test('a pinned map is opened again', () => {
		const map = create({ name: 'pinned' });
		map.pin(join(pins, 'map'));
		map.update(u32(1), u64(11));
		const again = native.BpfMap.open(join(pins, 'map'));
		assert.equal(again.info().id, map.info().id);
		assert.deepEqual(again.lookup(u32(1)), u64(11));
		assert.throws(() => map.pin(join(pins, 'map')), { code: 'EEXIST', syscall: 'bpf(BPF_OBJ_PIN)', path: join(pins, 'map') });
	});

	test('a path that is no pinned map is refused', () => {
		const file = join(dir, 'file');
		writeFileSync(file, '');
		assert.throws(() => native.BpfMap.open(file), { code: 'EACCES', syscall: 'bpf(BPF_OBJ_GET)', path: file });
		assert.throws(() => native.BpfMap.open(join(pins, 'none')), { code: 'ENOENT', errno: -2, path: join(pins, 'none') });
		create({}).pin(join(pins, 'not-a-program'));
		assert.throws(() => native.BpfProgram.open(join(pins, 'not-a-program')), { code: 'EINVAL', syscall: 'bpf(BPF_OBJ_GET)' });
		assert.throws(() => native.BpfLink.open(join(pins, 'not-a-program')), { code: 'EINVAL' });
	});

	test('a closed map says EBADF to everything, and closing twice is harmless', async () => {
		const map = closed();
		map.close();
		const gone = { code: 'EBADF', errno: -9, map: 'test' };
		for (const call of [
			() => map.fd,
			() => map.info(),
			() => map.lookup(u32(1)),
			() => map.update(u32(1), u64(1)),
			() => map.delete(u32(1)),
			() => map.nextKey(),
			() => map.mmap(),
			() => map.pin(join(pins, 'closed')),
		])
			assert.throws(call, gone, String(call));
		for (const call of [
			() => map.updateAsync(u32(1), u64(1)),
			() => map.updateBatchAsync(u32(1), u64(1)),
			() => map.updateParallelAsync(u32(1), u64(1), 2),
			() => map.deleteAsync(u32(1)),
		])
			await assert.rejects(call(), gone, String(call));
	});

	test('a wrong argument is a TypeError, never a crash', async () => {
		const map = hash();
		const anything = (x: unknown) => x as never;
		for (const call of [
			() => map.lookup(u32(1, 2)),
			() => map.lookup(anything(undefined)),
			() => map.lookup(anything(new Uint32Array(1))),
			() => map.lookup(anything(new ArrayBuffer(4))),
			() => map.update(u32(1), u32(1)),
			() => map.update(u32(1), u64(1), -1),
			() => map.update(u32(1), u64(1), 1.5),
			() => map.update(u32(1), u64(1), anything('1')),
			() => map.delete(new Uint8Array(0)),
			() => map.nextKey(u64(1)),
			() => map.pin(anything(7)),
			() => map.pin('/sys/fs/bpf/a\0b'),
			() => map.mmap(anything(7)),
			() => map.mmap({ readOnly: anything(1) }),
			() => native.BpfMap.open(anything(null)),
			() => native.BpfMap.create(anything(undefined)),
			() => create({ maxEntries: 2 ** 32 }),
			() => create({ name: anything(1) }),
			() => Reflect.construct(native.BpfMap, []),
			() => Reflect.apply(map.lookup, {}, [u32(1)]),
		])
			assert.throws(call, TypeError, String(call));
		for (const call of [
			() => map.updateBatchAsync(new Uint8Array(3), u64(1)),
			() => map.updateBatchAsync(u32(1), u64(1, 2)),
			() => map.updateParallelAsync(u32(1), u64(1), anything('8')),
			() => map.updateAsync(u32(1, 2), u64(1, 2)),
			() => map.deleteAsync(u64(1)),
		])
			await assert.rejects(call(), TypeError, String(call));
	});

	test('a getter that throws among the options passes through', () => {
		const options = {
			get readOnly(): boolean {
				throw new RangeError('from the getter');
			},
		};
		assert.throws(() => create({ flags: MAP.mmapable }).mmap(options), /from the getter/);
	});
});
