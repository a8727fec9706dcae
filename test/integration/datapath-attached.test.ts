// SPDX-License-Identifier: Apache-2.0
// The contract of every datapath on an interface, in the driver and without it; and what an interface refuses.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmdirSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type AttachOptions, detach } from '../../src/datapath/adopt.ts';
import { attach } from '../../src/datapath/attach.ts';
import { openDatapath } from '../../src/datapath/open.ts';
import { systemEnv } from '../../src/env.ts';
import { isXdpilotError } from '../../src/errors.ts';
import { clientFlow, datapathContract, forwarding } from '../support/datapath-contract.ts';
import { sendThrough, smallOptions, surroundings } from '../support/datapath-subject.ts';
import { whyNoBpf } from '../support/privileged.ts';
import { enterVeth, type Veth, whyNoNamespace } from '../support/veth.ts';

const skip = whyNoBpf() ?? whyNoNamespace() ?? false;
const pinPath = `/sys/fs/bpf/xdpt-attached-${process.pid}`;
let veth: Veth;

const target = (mode: AttachOptions['mode'] = 'auto'): AttachOptions => ({ on: veth.balancer, mode, pinPath });
const hasCode =
	(code: string, text = '') =>
	(e: unknown) =>
		isXdpilotError(e) && e.code === code && e.message.includes(text);

before(() => {
	if (skip === false) veth = enterVeth(surroundings().native, 'att');
});
after(() => {
	if (skip !== false) return;
	detach(surroundings().native, pinPath, veth.balancer.ifindex);
	veth.remove();
});

for (const mode of ['native', 'generic'] as const) {
	datapathContract(
		mode,
		async (limits) => {
			const datapath = await openDatapath(surroundings(), smallOptions(limits), target(mode));
			assert.equal(datapath.info.mode, mode);
			return {
				datapath,
				send: (flow, packet) => sendThrough(datapath, flow, packet),
				dispose: async () => {
					await datapath.close();
					detach(surroundings().native, pinPath, veth.balancer.ifindex);
				},
			};
		},
		skip,
	);
}

for (const mode of ['native', 'generic', 'auto'] as const) {
	test(`an interface with another program is refused in mode ${mode} by the number of that program, which stays`, { skip }, async () => {
		const { native } = surroundings();
		const object = native.BpfObject.open(fileURLToPath(new URL('../../build/bpf/pass.bpf.o', import.meta.url)));
		object.setAutoload('xdp_pass_frags', false);
		object.load();
		const program = object.program('xdp_pass');
		const { link } = await attach(native, systemEnv, veth.balancer, 'generic', () => program);
		try {
			const { id } = program.info();
			await assert.rejects(openDatapath(surroundings(), smallOptions(), target(mode)), hasCode('E_ATTACH', `program ${id}`));
			assert.equal(link.info().ifindex, veth.balancer.ifindex);
			assert.throws(() => readdirSync(pinPath), /ENOENT/);
		} finally {
			link.close();
			program.close();
			object.close();
		}
	});
}

test('an interface that does not exist is refused, and leaves no pins', { skip }, async () => {
	const nowhere = { on: { name: 'nowhere0', ifindex: 4_000_000 }, mode: 'auto', pinPath } as const;
	await assert.rejects(openDatapath(surroundings(), smallOptions(), nowhere), hasCode('E_ATTACH'));
	assert.throws(() => readdirSync(`${pinPath}/4000000`));
});

test('an interface that goes away takes the mode with it, so that status does not call it forwarding', { skip }, async () => {
	const { native } = surroundings();
	execFileSync('ip', ['link', 'add', 'gone0', 'type', 'veth', 'peer', 'name', 'gone1']);
	const [{ ifindex }] = JSON.parse(execFileSync('ip', ['-j', 'link', 'show', 'gone0'], { encoding: 'utf8' }));
	const on = { ...veth.balancer, name: 'gone0', ifindex };
	const datapath = await openDatapath(surroundings(), smallOptions(), { on, mode: 'generic', pinPath });
	try {
		assert.equal(datapath.info.mode, 'generic');
		execFileSync('ip', ['link', 'del', 'gone0']);
		assert.deepEqual(datapath.info, { interface: 'gone0', mode: 'none', adopted: false });
	} finally {
		await datapath.close();
		detach(native, pinPath, ifindex);
	}
});

test('a large MTU gets the program for several buffers, and keeps it when options change', { skip }, async () => {
	veth.setMtu(9000);
	try {
		const first = await openDatapath(surroundings(), smallOptions(), target('native'));
		assert.equal(first.instance.program.info().name, 'lb_frags');
		await forwarding(first, 2);
		await first.close();
		const second = await openDatapath(surroundings(), smallOptions({}, { maxFrame: 9014 }), target('native'));
		assert.equal(second.info.adopted, true);
		assert.equal(second.instance.program.info().name, 'lb_frags');
		assert.equal(sendThrough(second, clientFlow(1)), second.explain(clientFlow(1)).backend?.address);
		await second.close();
	} finally {
		detach(surroundings().native, pinPath, veth.balancer.ifindex);
		veth.setMtu(1500);
	}
});

test('a second daemon on the same interface is refused, and the first goes on', { skip }, async () => {
	const first = await openDatapath(surroundings(), smallOptions(), target());
	try {
		await assert.rejects(openDatapath(surroundings(), smallOptions(), target()), hasCode('E_DATAPATH', 'another xdpilot'));
		assert.throws(() => detach(surroundings().native, pinPath, veth.balancer.ifindex), hasCode('E_DATAPATH', 'another xdpilot'));
		assert.equal(sendThrough(first, clientFlow(1)), 'pass');
	} finally {
		await first.close();
		detach(surroundings().native, pinPath, veth.balancer.ifindex);
	}
});

test('detach takes everything down, and doing it again is harmless', { skip }, async () => {
	const datapath = await openDatapath(surroundings(), smallOptions(), target());
	await datapath.close();
	const { native } = surroundings();
	assert.equal(detach(native, pinPath, veth.balancer.ifindex), true);
	assert.equal(detach(native, pinPath, veth.balancer.ifindex), false);
	assert.throws(() => readdirSync(pinPath), /ENOENT/);
	// The interface is free again: another start makes everything anew.
	const again = await openDatapath(surroundings(), smallOptions(), target());
	assert.equal(again.info.adopted, false);
	await again.close();
	detach(native, pinPath, veth.balancer.ifindex);
});

test('pins outside bpffs are refused, and so is a folder that others can write', { skip }, async () => {
	const outside = { ...target(), pinPath: `/tmp/xdpt-pins-${process.pid}` };
	await assert.rejects(openDatapath(surroundings(), smallOptions(), outside), hasCode('E_PLATFORM', 'not in a BPF file system'));
	const shared = `/sys/fs/bpf/xdpt-shared-${process.pid}`;
	mkdirSync(`${shared}/${veth.balancer.ifindex}`, { recursive: true, mode: 0o755 });
	try {
		await assert.rejects(openDatapath(surroundings(), smallOptions(), { ...target(), pinPath: shared }), hasCode('E_PERMISSION'));
	} finally {
		rmdirSync(`${shared}/${veth.balancer.ifindex}`);
		rmdirSync(shared);
	}
});
