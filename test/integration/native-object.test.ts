// SPDX-License-Identifier: Apache-2.0
// BpfObject and BpfProgram on objects compiled for the test: what is read before load, what load takes and refuses,
// and test runs.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import type { BpfObject } from '../../src/native/addon.d.ts';
import { loadNative, type NativeAddon } from '../../src/native/binding.ts';
import { compileBpf, MAP, openFds, readU32, scratch, scratchPins, u32, u64, whyNoPrograms } from '../support/native-fixtures.ts';

const skip = whyNoPrograms();
const dir = scratch();
const pins = skip ? '' : scratchPins();
const XDP = { aborted: 0, drop: 1, pass: 2, tx: 3 };
const FRAME = Uint8Array.from({ length: 60 }, (_, i) => i + 1);

describe('BPF objects and programs', { skip }, () => {
	let native: NativeAddon;
	let path: string;
	let refused: string;
	const open = () => native.BpfObject.open(path);
	const program = (name: string, prepare: (o: BpfObject) => void = () => {}) => {
		const object = open();
		prepare(object);
		object.load();
		const loaded = object.program(name);
		object.close();
		return loaded;
	};
	const word = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

	before(() => {
		native = loadNative();
		path = compileBpf('native', dir);
		refused = compileBpf('native-refused', dir);
	});

	test('an object lists its programs and maps, inner ones too', () => {
		const object = open();
		assert.deepEqual(
			object.programs.map((p) => `${p.section} ${p.name}`),
			['xdp answer', 'xdp grow', 'xdp peek', 'xdp interface'],
		);
		const outer = object.maps.find((m) => m.name === 'outer');
		assert.deepEqual(outer, {
			name: 'outer',
			type: MAP.arrayOfMaps,
			keySize: 4,
			valueSize: 4,
			maxEntries: 4,
			flags: 0,
			inner: { name: 'outer.inner', type: MAP.array, keySize: 4, valueSize: 8, maxEntries: 1, flags: 0 },
		});
		assert.ok(object.maps.some((m) => m.name.endsWith('.rodata')));
		object.close();
	});

	test('a file that is missing or no object is refused with its path', () => {
		assert.throws(() => native.BpfObject.open(join(dir, 'none')), { code: 'ENOENT', path: join(dir, 'none') });
		const text = join(dir, 'text');
		writeFileSync(text, 'no ELF file');
		assert.throws(
			() => native.BpfObject.open(text),
			(e: NodeJS.ErrnoException & { verifierLog?: string }) => {
				assert.equal(e.code, 'ELIBBPF');
				assert.equal(e.path, text);
				assert.match(e.verifierLog ?? '', /not a proper ELF object/);
				return true;
			},
		);
	});

	test('rodata written before load is what the program reads', () => {
		assert.equal(program('answer').testRun(FRAME).verdict, XDP.drop);
		const passing = program('answer', (o) => word(o.rodata()).setUint32(0, XDP.pass, true));
		assert.equal(passing.testRun(FRAME).verdict, XDP.pass);
	});

	test('rodata is one view, and writing it after load changes nothing', () => {
		const object = open();
		const bytes = object.rodata();
		assert.equal(object.rodata(), bytes);
		object.load();
		word(bytes).setUint32(0, XDP.pass, true);
		assert.equal(object.program('answer').testRun(FRAME).verdict, XDP.drop);
		object.close();
		bytes.fill(0xff);
	});

	test('an object without rodata says so', () => {
		const object = native.BpfObject.open(refused);
		assert.throws(() => object.rodata(), { code: 'ENOENT', path: refused });
	});

	test('maps take other sizes before load, templates of inner maps too', () => {
		const object = open();
		object.resizeMap('outer', { maxEntries: 100, innerValueSize: 131080, innerMaxEntries: 1 });
		object.resizeMap('runs', {});
		object.load();
		const outer = object.map('outer');
		assert.equal(outer.info().maxEntries, 100);
		const ring = { name: 'ring', type: MAP.array, keySize: 4, maxEntries: 1, flags: 0 };
		outer.update(u32(99), u32(native.BpfMap.create({ ...ring, valueSize: 131080 }).fd));
		const other = native.BpfMap.create({ ...ring, valueSize: 8 });
		assert.throws(() => outer.update(u32(0), u32(other.fd)), { code: 'EINVAL', map: 'outer' });
		assert.throws(() => object.resizeMap('outer', { maxEntries: 5 }), { code: 'EBUSY', map: 'outer' });
		object.close();
	});

	test('only a map of maps has an inner size', () => {
		const object = open();
		assert.throws(() => object.resizeMap('runs', { innerValueSize: 8 }), { code: 'EINVAL', map: 'runs' });
		assert.throws(() => object.resizeMap('runs', { maxEntries: 'many' as never }), TypeError);
		object.close();
	});

	test('an existing map is taken instead of a new one, under the object\u2019s name', () => {
		const first = open();
		first.load();
		const runs = first.map('runs');
		const second = open();
		second.reuseMap('runs', runs);
		runs.close();
		second.load();
		assert.equal(second.map('runs').info().id, first.map('runs').info().id);
		second.program('answer').testRun(FRAME, { repeat: 3 });
		const counted = first.map('runs').lookup(u32(0));
		let sum = 0;
		for (let cpu = 0; cpu < native.possibleCpus(); cpu++) sum += readU32(counted, 8 * cpu) ?? 0;
		assert.equal(sum, 3);
		assert.throws(() => second.reuseMap('runs', runs), { code: 'EBADF' });
		assert.throws(() => second.reuseMap('runs', {} as never), TypeError);
	});

	test('a map renamed by reuse is still found by the name in the file', () => {
		const other = native.BpfMap.create({ name: 'elsewhere', type: MAP.percpuArray, keySize: 4, valueSize: 4, maxEntries: 1, flags: 0 });
		const object = open();
		object.reuseMap('runs', other);
		object.load();
		assert.equal(object.map('runs').info().name, 'elsewhere');
	});

	test('a swap of an inner map shows in the next run', async () => {
		const object = open();
		object.load();
		const outer = object.map('outer');
		const peek = object.program('peek');
		assert.equal(peek.testRun(FRAME).verdict, XDP.aborted);
		const inner = { name: 'inner', type: MAP.array, keySize: 4, valueSize: 8, maxEntries: 1, flags: 0 };
		for (const value of [XDP.tx, XDP.pass]) {
			const ring = native.BpfMap.create(inner);
			ring.update(u32(0), u64(value));
			await outer.updateBatchAsync(u32(0), u32(ring.fd));
			ring.close();
			assert.equal(peek.testRun(FRAME).verdict, value);
		}
		assert.equal(await outer.deleteAsync(u32(0)), true);
		assert.equal(peek.testRun(FRAME).verdict, XDP.aborted);
	});

	test('a refused program brings its name and the verifier\u2019s log', () => {
		const object = native.BpfObject.open(refused);
		assert.throws(
			() => object.load(),
			(e: NodeJS.ErrnoException & { verifierLog?: string; program?: string }) => {
				assert.deepEqual([e.code, e.syscall, e.program], ['EACCES', 'bpf(BPF_PROG_LOAD)', 'careless']);
				assert.match(e.verifierLog ?? '', /invalid access to packet/);
				assert.doesNotMatch(e.message, /invalid access/);
				return true;
			},
		);
	});

	test('a program that is not to be loaded is left out', () => {
		const object = native.BpfObject.open(refused);
		object.setAutoload('careless', false);
		object.load();
		assert.equal(object.program('careful').testRun(FRAME).verdict, XDP.pass);
		assert.throws(() => object.program('careless'), { code: 'EBADF', program: 'careless' });
		assert.throws(() => object.setAutoload('careless', true), { code: 'EINVAL', program: 'careless' });
		assert.throws(() => object.setAutoload('careful', 1 as never), TypeError);
	});

	test('a map that can\u2019t be made is named', () => {
		const object = open();
		object.resizeMap('runs', { valueSize: 1 << 30 });
		assert.throws(() => object.load(), { syscall: 'bpf(BPF_MAP_CREATE)', map: 'runs' });
	});

	test('unknown names, and maps before load, are refused', () => {
		const object = open();
		for (const call of [() => object.map('none'), () => object.resizeMap('none', {}), () => object.reuseMap('none', {} as never)])
			assert.throws(call, { code: 'ENOENT', map: 'none' });
		for (const call of [() => object.program('none'), () => object.setAutoload('none', true)])
			assert.throws(call, { code: 'ENOENT', program: 'none' });
		assert.throws(() => object.map('runs'), { code: 'EBADF', map: 'runs' });
		assert.throws(() => object.program('answer'), { code: 'EBADF', program: 'answer' });
	});

	test('maps and programs outlive their object, and a closed object says EBADF', () => {
		const object = open();
		object.load();
		const runs = object.map('runs');
		const answer = object.program('answer');
		object.close();
		object.close();
		assert.equal(answer.testRun(FRAME).verdict, XDP.drop);
		assert.ok(runs.lookup(u32(0)));
		for (const call of [
			() => object.maps,
			() => object.programs,
			() => object.rodata(),
			() => object.load(),
			() => object.map('runs'),
			() => object.program('answer'),
			() => object.resizeMap('runs', {}),
			() => object.setAutoload('answer', true),
		])
			assert.throws(call, { code: 'EBADF', path }, String(call));
	});

	test('a program tells its name, tag and sizes', () => {
		const { id, name, tag, xlatedBytes, jitedBytes, verifiedInstructions } = program('answer').info();
		assert.equal(name, 'answer');
		assert.match(tag, /^[0-9a-f]{16}$/);
		for (const n of [id, xlatedBytes, jitedBytes, verifiedInstructions]) assert.ok(n > 0);
	});

	test('a run gives verdict, frame and time, and leaves its input alone', async () => {
		const frame = Uint8Array.from(FRAME);
		const grow = program('grow');
		for (const result of [grow.testRun(frame), await grow.testRunAsync(frame)]) {
			assert.equal(result.verdict, XDP.tx);
			assert.deepEqual(result.out, Uint8Array.of(0, 0, 0, 0, ...FRAME));
			assert.ok(result.durationNs >= 0);
		}
		assert.deepEqual(frame, FRAME);
	});

	test('a run is told the interface', () => {
		const ifindex = program('interface');
		assert.equal(ifindex.testRun(FRAME, { ifindex: 1 }).verdict, 1);
		assert.throws(() => ifindex.testRun(FRAME, { ifindex: 2 ** 20 }), {
			code: 'ENODEV',
			syscall: 'bpf(BPF_PROG_TEST_RUN)',
			program: 'interface',
		});
	});

	test('a frame that is too short is refused', async () => {
		const answer = program('answer');
		const refusal = { code: 'EINVAL', syscall: 'bpf(BPF_PROG_TEST_RUN)', program: 'answer' };
		assert.throws(() => answer.testRun(new Uint8Array(13)), refusal);
		await assert.rejects(answer.testRunAsync(new Uint8Array(13)), refusal);
		assert.throws(() => answer.testRunMany(Uint8Array.of(...u32(60), ...FRAME, ...u32(1), 0)), { ...refusal, done: 1 });
	});

	test('many frames are run in order', () => {
		const grow = program('grow');
		const frames = [FRAME, FRAME.subarray(0, 20)];
		const packed = frames.flatMap((f) => [...u32(f.length), ...f]);
		const expected = frames.flatMap((f) => [...u32(XDP.tx), ...u32(f.length + 4), 0, 0, 0, 0, ...f]);
		assert.deepEqual([...grow.testRunMany(Uint8Array.from(packed))], expected);
		assert.equal(grow.testRunMany(new Uint8Array(0)).length, 0);
	});

	test('frames packed wrongly are a TypeError', () => {
		const answer = program('answer');
		for (const packed of [u32(61), Uint8Array.of(...u32(61), ...FRAME), Uint8Array.of(1, 2), u32(0xffffffff)])
			assert.throws(() => answer.testRunMany(packed), TypeError);
	});

	test('live frames run without giving any back', () => {
		const result = program('answer').testRun(FRAME, { liveFrames: true, repeat: 64 });
		assert.deepEqual([result.verdict, result.out.length], [0, 0]);
	});

	test('a pinned program is opened again', () => {
		const answer = program('answer');
		answer.pin(join(pins, 'answer'));
		const again = native.BpfProgram.open(join(pins, 'answer'));
		assert.equal(again.info().id, answer.info().id);
		assert.throws(() => native.BpfMap.open(join(pins, 'answer')), { code: 'EINVAL', path: join(pins, 'answer') });
	});

	test('a closed program says EBADF to everything', async () => {
		const answer = program('answer');
		answer.close();
		const gone = { code: 'EBADF', program: 'answer' };
		for (const call of [
			() => answer.fd,
			() => answer.info(),
			() => answer.testRun(FRAME),
			() => answer.testRunMany(FRAME),
			() => answer.pin(join(pins, 'closed')),
		])
			assert.throws(call, gone, String(call));
		await assert.rejects(answer.testRunAsync(FRAME), gone);
	});

	test('opening, loading and closing leaves no descriptor', () => {
		const once = () => {
			const object = open();
			object.load();
			const handles = [object.map('runs'), object.program('answer')];
			object.close();
			for (const h of handles) h.close();
			const bad = native.BpfObject.open(refused);
			assert.throws(() => bad.load());
			bad.close();
		};
		once();
		const start = openFds();
		for (let i = 0; i < 20; i++) once();
		assert.equal(openFds(), start);
	});
});
