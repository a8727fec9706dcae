// SPDX-License-Identifier: Apache-2.0
// BpfLink and enterNetns. Works in a network namespace of its own, which this test's process can't leave: that is why
// it has a file of its own.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { BpfLink, BpfProgram } from '../../src/native/addon.d.ts';
import { loadNative, type NativeAddon } from '../../src/native/binding.ts';
import { compileBpf, scratch, scratchPins, whyNoPrograms } from '../support/native-fixtures.ts';

const skip = whyNoPrograms();
const dir = scratch();
const pins = skip ? '' : scratchPins();
const NETNS = `xdpilot-link-${process.pid}`;
const GENERIC = 2;
const NATIVE = 4;

describe('BpfLink', { skip }, () => {
	let native: NativeAddon;
	let answer: BpfProgram;
	let grow: BpfProgram;
	let veth: number;
	const links: BpfLink[] = [];
	const attach = (program: BpfProgram, ifindex = veth, flags = NATIVE) => {
		const link = native.BpfLink.attachXdp(program, ifindex, flags);
		links.push(link);
		return link;
	};
	const ip = (...args: string[]) => execFileSync('ip', args, { encoding: 'utf8' });
	/** Not `ip -n`: that remounts /, which fails in a chroot. */
	const ipInside = (...args: string[]) => execFileSync('nsenter', [`--net=/run/netns/${NETNS}`, 'ip', ...args], { encoding: 'utf8' });
	/** Id of the program that the kernel says is attached to `link0`; 0 = none. Asked of iproute2, not of the addon. */
	const attached = (): number => {
		const [facts] = JSON.parse(ipInside('-j', 'link', 'show', 'link0')) as [{ xdp?: { prog?: { id: number } } }];
		return facts.xdp?.prog?.id ?? 0;
	};
	/** Detaching is finished by a kernel worker. */
	const detached = async () => {
		for (let i = 0; i < 200 && attached() !== 0; i++) await new Promise((r) => setImmediate(r));
		return attached() === 0;
	};

	before(() => {
		native = loadNative();
		ip('netns', 'add', NETNS);
		ipInside('link', 'add', 'link0', 'type', 'veth', 'peer', 'name', 'link1');
		native.enterNetns(`/run/netns/${NETNS}`);
		veth = Number(JSON.parse(ipInside('-j', 'link', 'show', 'link0'))[0].ifindex);
		const object = native.BpfObject.open(compileBpf('native', dir));
		object.load();
		answer = object.program('answer');
		grow = object.program('grow');
		object.close();
	});

	after(() => {
		for (const link of links) link.close();
		ip('netns', 'del', NETNS);
	});

	test('after enterNetns this thread is in the other namespace', () => {
		assert.deepEqual(Object.keys(networkInterfaces()), []);
		assert.match(readFileSync('/proc/thread-self/net/dev', 'utf8'), /^ *link0:/m);
	});

	test('a namespace that is none is refused', () => {
		assert.throws(() => native.enterNetns('/run/netns/none'), { code: 'ENOENT', syscall: 'open', path: '/run/netns/none' });
		assert.throws(() => native.enterNetns('/dev/null'), { code: 'EINVAL', syscall: 'setns', path: '/dev/null' });
		assert.throws(() => native.enterNetns(1 as never), TypeError);
	});

	for (const [mode, flags] of [
		['native', NATIVE],
		['generic', GENERIC],
	] as const) {
		test(`a program is attached in ${mode} mode until its link is closed`, async () => {
			const link = attach(answer, veth, flags);
			const info = link.info();
			assert.deepEqual([info.programId, info.ifindex, info.type], [answer.info().id, veth, 6]);
			assert.equal(attached(), answer.info().id);
			link.close();
			assert.ok(await detached());
		});
	}

	test('an interface that has a program refuses another', () => {
		const link = attach(answer);
		assert.throws(() => native.BpfLink.attachXdp(grow, veth, NATIVE), {
			code: 'EBUSY',
			errno: -16,
			syscall: 'bpf(BPF_LINK_CREATE)',
			program: 'grow',
		});
		link.close();
	});

	test('an interface or flags that don\u2019t exist are refused', () => {
		assert.throws(() => native.BpfLink.attachXdp(answer, 2 ** 20, NATIVE), { code: 'EINVAL', program: 'answer' });
		assert.throws(() => native.BpfLink.attachXdp(answer, veth, 2 ** 20), { code: 'EINVAL', program: 'answer' });
	});

	test('a program is replaced in place, and only the expected one', async () => {
		assert.ok(await detached());
		const link = attach(answer);
		link.update(grow);
		assert.equal(attached(), grow.info().id);
		assert.throws(() => link.update(answer, answer), { code: 'EPERM', syscall: 'bpf(BPF_LINK_UPDATE)', program: 'answer' });
		link.update(answer, grow);
		assert.equal(attached(), answer.info().id);
		link.close();
	});

	test('a pinned link keeps forwarding after close, and is opened again', async () => {
		assert.ok(await detached());
		const link = attach(answer);
		link.pin(join(pins, 'link'));
		const { id } = link.info();
		link.close();
		assert.equal(attached(), answer.info().id);
		const again = native.BpfLink.open(join(pins, 'link'));
		links.push(again);
		assert.equal(again.info().id, id);
		assert.throws(() => native.BpfProgram.open(join(pins, 'link')), { code: 'EINVAL', path: join(pins, 'link') });
		execFileSync('rm', [join(pins, 'link')]);
		again.close();
		assert.ok(await detached());
	});

	test('a closed link or program says EBADF', () => {
		const link = attach(answer);
		const object = native.BpfObject.open(join(dir, 'native.bpf.o'));
		object.load();
		const other = object.program('answer');
		other.close();
		assert.throws(() => link.update(other), { code: 'EBADF', program: 'answer' });
		assert.throws(() => link.update(answer, other), { code: 'EBADF', program: 'answer' });
		assert.throws(() => native.BpfLink.attachXdp(other, veth, NATIVE), { code: 'EBADF', program: 'answer' });
		link.close();
		for (const call of [() => link.fd, () => link.info(), () => link.update(answer), () => link.pin(join(pins, 'closed'))])
			assert.throws(call, { code: 'EBADF' }, String(call));
	});

	test('what is no program is a TypeError', () => {
		const map = native.BpfMap.create({ name: 'map', type: 2, keySize: 4, valueSize: 4, maxEntries: 1, flags: 0 });
		for (const wrong of [map, {}, undefined, 7, native.BpfProgram.prototype])
			assert.throws(() => native.BpfLink.attachXdp(wrong as never, veth, NATIVE), TypeError);
		assert.throws(() => native.BpfLink.attachXdp(answer, -1, NATIVE), TypeError);
	});
});
