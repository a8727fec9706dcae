// SPDX-License-Identifier: Apache-2.0
// A restart takes over what is pinned: unchanged inputs write nothing, changed options replace the program alone,
// another shape is refused untouched, and whatever an earlier daemon was in the middle of is finished or undone.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { BackendState, META_OFFSET, POOL_ROW_OFFSET, POOL_ROW_SIZE, PoolPhase } from '../../src/datapath/abi.gen.ts';
import { type AttachOptions, detach } from '../../src/datapath/adopt.ts';
import type { BpfDatapath } from '../../src/datapath/bpf-datapath.ts';
import { LB_OBJECT } from '../../src/datapath/loader.ts';
import { openDatapath } from '../../src/datapath/open.ts';
import type { DatapathOptions } from '../../src/datapath/options.ts';
import { instancePath } from '../../src/datapath/pins.ts';
import { isXdpilotError } from '../../src/errors.ts';
import { vipKey } from '../../src/model/vip.ts';
import { backendAddress, clientFlow, forwarding, put, ring, vip } from '../support/datapath-contract.ts';
import { sendThrough, smallOptions, surroundings } from '../support/datapath-subject.ts';
import { whyNoBpf } from '../support/privileged.ts';
import { enterVeth, type Veth, whyNoNamespace } from '../support/veth.ts';

const skip = whyNoBpf() ?? whyNoNamespace() ?? false;
const pinPath = `/sys/fs/bpf/xdpt-adopt-${process.pid}`;
const FLOWS = Array.from({ length: 40 }, (_, n) => clientFlow(n));
let veth: Veth;

before(() => {
	if (skip === false) veth = enterVeth(surroundings().native, 'adopt');
});
afterEach(() => {
	if (skip === false) detach(surroundings().native, pinPath, veth.balancer.ifindex);
});
after(() => {
	if (skip === false) veth.remove();
});

const target = (mode: AttachOptions['mode'] = 'auto'): AttachOptions => ({ on: veth.balancer, mode, pinPath });
const open = (over: Partial<DatapathOptions> = {}, limits: Partial<DatapathOptions['limits']> = {}, object?: string) =>
	openDatapath({ ...surroundings(), ...(object === undefined ? {} : { object }) }, smallOptions(limits, over), target());
const hasCode =
	(code: string, text = '') =>
	(e: unknown) =>
		isXdpilotError(e) && e.code === code && e.message.includes(text);

/** Ids of everything pinned and attached, and what is in the ring slots: equal means that nothing was touched. */
function fingerprint(): unknown {
	const { native } = surroundings();
	const folder = instancePath(pinPath, veth.balancer.ifindex);
	const ids = readdirSync(folder)
		.sort()
		.map((name) => {
			if (name.startsWith('program')) return [name, closing(native.BpfProgram.open(join(folder, name)), (p) => p.info().id)];
			if (name.startsWith('link'))
				return [name, closing(native.BpfLink.open(join(folder, name)), (l) => [l.info().id, l.info().programId])];
			return [name, closing(native.BpfMap.open(join(folder, name)), (m) => m.info().id)];
		});
	const slots = closing(native.BpfMap.open(join(folder, 'rings')), (rings) =>
		[1, 2, 3].map((slot) => rings.lookup(new Uint8Array(Uint32Array.of(slot).buffer))?.join('.') ?? null),
	);
	return { ids, slots };
}

function closing<H extends { close(): void }, T>(handle: H, read: (handle: H) => T): T {
	try {
		return read(handle);
	} finally {
		handle.close();
	}
}

/** Changes the bytes of a pinned map through its memory, as a daemon that died would have left them. */
function scribble(map: string, change: (memory: ArrayBuffer) => void): void {
	const { native } = surroundings();
	closing(native.BpfMap.open(join(instancePath(pinPath, veth.balancer.ifindex), map)), (m) => change(m.mmap()));
}

/** Flows on three backends of which the first has left the ring: only the flow table knows where they are. */
async function withOldFlows(datapath: BpfDatapath) {
	await forwarding(datapath, 3);
	const places = FLOWS.map((f) => sendThrough(datapath, f));
	datapath.putBackends([put(1, { state: 'draining' }), put(4)]);
	await datapath.swapRings([ring([2, 3, 4])]);
	assert.ok(places.includes(backendAddress(1)));
	return places;
}

test('a restart with unchanged inputs writes no ring and moves no flow', { skip }, async () => {
	const first = await open();
	const places = await withOldFlows(first);
	const before = first.actual();
	const counted = first.counters().vips.get(vipKey(vip()));
	await first.close();
	const touched = fingerprint();

	const second = await open();
	try {
		assert.equal(second.info.adopted, true);
		assert.deepEqual(second.actual(), before);
		assert.deepEqual(second.counters().vips.get(vipKey(vip())), counted);
		second.putBackends([put(1, { state: 'draining' }), put(2), put(3), put(4)]);
		assert.deepEqual(await second.swapRings([ring([2, 3, 4])]), []);
		await second.putVips([vip()]);
		assert.deepEqual(fingerprint(), touched);
		assert.deepEqual(
			FLOWS.map((f) => second.explain(f).backend?.address),
			places,
		);
		assert.deepEqual(
			FLOWS.map((f) => sendThrough(second, f)),
			places,
		);
	} finally {
		await second.close();
	}
});

test("what was adopted can be changed like one's own", { skip }, async () => {
	const first = await open();
	await forwarding(first, 3);
	await first.close();
	const second = await open();
	try {
		const [swap] = await second.swapRings([ring([1, 2])]);
		assert.ok(swap);
		assert.equal(swap.generation, 2);
		assert.ok(swap.moved !== null && swap.unavoidable !== null && swap.moved >= swap.unavoidable && swap.unavoidable > 0);
		await second.removeBackends('web', [backendAddress(3)]);
		second.putBackends([put(9)]);
		await second.swapRings([ring([9])]);
		assert.equal(sendThrough(second, clientFlow(1), { syn: true }), backendAddress(9));
	} finally {
		await second.close();
	}
});

test('other options replace the program on the same maps, and keep every flow', { skip }, async () => {
	const first = await open();
	const places = await withOldFlows(first);
	const program = first.instance.program.info().id;
	const link = first.instance.attachment?.link.info().id;
	await first.close();

	const second = await open({ maxFrame: 1400, tooBig: 'drop' });
	const replaced = second.instance.program.info().id;
	try {
		assert.notEqual(replaced, program);
		assert.equal(second.instance.attachment?.link.info().id, link);
		assert.equal(second.instance.attachment?.link.info().programId, replaced);
		assert.deepEqual(
			FLOWS.map((f) => sendThrough(second, f)),
			places,
		);
	} finally {
		await second.close();
	}
	// The new options are those that are pinned now.
	const third = await open({ maxFrame: 1400, tooBig: 'drop' });
	assert.equal(third.instance.program.info().id, replaced);
	await third.close();
});

for (const [what, limits] of [
	['more vips', { maxVips: 64 }],
	['more backends', { maxBackends: 512 }],
	['more pools', { maxPools: 64 }],
	['another ring size', { ringSize: 2003 }],
	['longer rings', { maxBackendsPerPool: 128 }],
] as const) {
	test(`a configuration with ${what} than the pinned maps is refused, with nothing touched`, { skip }, async () => {
		const first = await open();
		await forwarding(first, 2);
		await first.close();
		const before = fingerprint();
		await assert.rejects(open({}, limits), hasCode('E_ABI_MISMATCH'));
		assert.deepEqual(fingerprint(), before);
		const again = await open();
		assert.notEqual(sendThrough(again, clientFlow(1)), 'pass');
		await again.close();
	});
}

test('pinned maps of another layout are refused, with nothing touched', { skip }, async () => {
	const first = await open();
	await forwarding(first, 2);
	await first.close();
	scribble('meta', (memory) => new Uint8Array(memory).fill(7, META_OFFSET.layoutHash, META_OFFSET.layoutHash + 4));
	const before = fingerprint();
	await assert.rejects(open(), hasCode('E_ABI_MISMATCH', 'layout 07070707'));
	assert.deepEqual(fingerprint(), before);
});

test('pins of an interface of the same number in another network namespace are refused, untouched', { skip }, async () => {
	const first = await open();
	await first.close();
	scribble('meta', (memory) => {
		new BigUint64Array(memory, META_OFFSET.netns, 1)[0] = 1n;
	});
	const before = fingerprint();
	await assert.rejects(open(), hasCode('E_DATAPATH', 'another network namespace'));
	assert.deepEqual(fingerprint(), before);
});

test('an object of another build is refused before anything is opened', { skip }, async () => {
	const first = await open();
	await first.close();
	const before = fingerprint();
	const other = join(tmpdir(), `xdpt-other-${process.pid}.bpf.o`);
	const bytes = readFileSync(LB_OBJECT);
	// A member's name in the BTF strings (and debug strings): the struct now has another layout.
	const text = bytes.toString('latin1').replaceAll('\0dst6\0', '\0dsu6\0');
	writeFileSync(other, Buffer.from(text, 'latin1'));
	try {
		await assert.rejects(open({}, {}, other), hasCode('E_ABI_MISMATCH', 'struct backend'));
		assert.deepEqual(fingerprint(), before);
	} finally {
		rmSync(other);
	}
});

test('a ring whose write was not confirmed is unknown, keeps forwarding, and is written again', { skip }, async () => {
	const first = await open();
	await forwarding(first, 3);
	await first.close();
	scribble('pool_rows', (memory) => {
		new Uint32Array(memory, POOL_ROW_SIZE + POOL_ROW_OFFSET.phase, 1)[0] = PoolPhase.POOL_PENDING;
	});
	const second = await open();
	try {
		assert.equal(second.actual().pools.get('web')?.ring, null);
		assert.notEqual(sendThrough(second, clientFlow(1)), 'drop');
		await assert.rejects(second.removeBackends('web', [backendAddress(1)]), hasCode('E_DATAPATH', 'may still be in the ring'));
		const [swap] = await second.swapRings([ring([1, 2, 3])]);
		assert.deepEqual([swap?.generation, swap?.moved], [2, null]);
		await second.swapRings([ring([2, 3])]);
		await second.removeBackends('web', [backendAddress(1)]);
	} finally {
		await second.close();
	}
});

test('weights that do not match the recorded ring make it unknown', { skip }, async () => {
	const first = await open();
	await forwarding(first, 3);
	const id = 1;
	await first.close();
	scribble('backends', (memory) => new DataView(memory).setUint32(64 * id + 36, 5, true));
	const second = await open();
	assert.equal(second.actual().pools.get('web')?.ring, null);
	await second.close();
});

test('a removal that an earlier daemon had begun is finished: the id is swept and given again', { skip }, async () => {
	const limits = { maxBackends: 3 };
	const first = await open({}, limits);
	await forwarding(first, 3);
	const places = FLOWS.map((f) => sendThrough(first, f));
	await first.swapRings([ring([2, 3])]);
	await first.close();
	// As removeBackends leaves it before the grace period: state retired, flows still there.
	scribble('backends', (memory) => {
		new Uint8Array(memory)[64 + 7] = BackendState.BACKEND_RETIRED;
	});
	const second = await open({}, limits);
	try {
		assert.deepEqual([...(second.actual().pools.get('web')?.backends.keys() ?? [])], [backendAddress(2), backendAddress(3)]);
		second.putBackends([put(50, { pool: 'strangers' })]);
		for (const [i, flow] of FLOWS.entries()) {
			const place = sendThrough(second, flow);
			if (places[i] === backendAddress(1))
				assert.ok(place === backendAddress(2) || place === backendAddress(3), `flow ${i} went to ${place}`);
			else assert.equal(place, places[i]);
		}
	} finally {
		await second.close();
	}
});

test('flows of a vip number that nobody has are forgotten before it is given again', { skip }, async () => {
	const first = await open();
	await forwarding(first, 2);
	for (const flow of FLOWS) sendThrough(first, flow);
	// As a daemon that died after a flip and before the sweep: entries of vip number 2, which no vip has.
	const words = new BigUint64Array(first.instance.maps.flows.mmap());
	for (let at = 1; at < words.length; at += 2) {
		const word = words[at] ?? 0n;
		if (word !== 0n) words[at] = (word & ~0xffffn) | 2n;
	}
	await first.close();
	const second = await open();
	try {
		assert.equal(
			[...((await second.countFlows()).get('web')?.values() ?? [])].reduce((a, b) => a + b, 0),
			0,
		);
	} finally {
		await second.close();
	}
});

test('pins of a start that was killed half-way are replaced', { skip }, async () => {
	const first = await open();
	await first.close();
	const folder = instancePath(pinPath, veth.balancer.ifindex);
	// The meta row is finished last: without it the maps are worth nothing.
	scribble('meta', (memory) => new Uint8Array(memory).fill(0, 0, 4));
	rmSync(join(folder, readdirSync(folder).find((n) => n.startsWith('link_')) ?? ''));
	const second = await open();
	assert.equal(second.info.adopted, false);
	assert.equal(second.actual().pools.size, 0);
	await second.close();
});

test('maps without a link are attached again, with all that they hold', { skip }, async () => {
	const first = await open();
	const places = await withOldFlows(first);
	await first.close();
	const folder = instancePath(pinPath, veth.balancer.ifindex);
	rmSync(join(folder, readdirSync(folder).find((n) => n.startsWith('link_')) ?? ''));
	const second = await open();
	try {
		assert.equal(second.info.adopted, true);
		assert.deepEqual(
			FLOWS.map((f) => sendThrough(second, f)),
			places,
		);
	} finally {
		await second.close();
	}
});

test('a link in another mode than configured is refused, untouched', { skip }, async () => {
	const first = await open();
	await first.close();
	const before = fingerprint();
	await assert.rejects(openDatapath(surroundings(), smallOptions(), target('generic')), hasCode('E_ATTACH', 'native'));
	assert.deepEqual(fingerprint(), before);
});
