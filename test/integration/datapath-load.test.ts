// SPDX-License-Identifier: Apache-2.0
// Under load: hundreds of ring swaps and vip flips while packets run, and how much memory the kernel locks.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { BpfDatapath } from '../../src/datapath/bpf-datapath.ts';
import { openPrivateDatapath } from '../../src/datapath/open.ts';
import { DEFAULT_OPTIONS } from '../../src/datapath/options.ts';
import { newInnerMap } from '../../src/datapath/ring-store.ts';
import { type Address, formatAddress } from '../../src/model/address.ts';
import type { BpfMap, BpfProgram } from '../../src/native/addon.d.ts';
import { backendAddress, clientFlow, put, ring, vip } from '../support/datapath-contract.ts';
import { packetOf, smallOptions, surroundings } from '../support/datapath-subject.ts';
import { whyNoBpf } from '../support/privileged.ts';

const skip = whyNoBpf() ?? false;
const SWAPS = 500;
const XDP_TX = 3;
const MIB = 1024 * 1024;

/** Frames as testRunMany takes them: a u32 length before each. */
function packed(frames: readonly Uint8Array[]): Uint8Array {
	return Buffer.concat(frames.flatMap((f) => [new Uint8Array(Uint32Array.of(f.length).buffer), f]));
}

/** Runs all frames once; destinations of the sent ones, undefined for each that was not. */
function burst(program: BpfProgram, frames: Uint8Array): (Address | undefined)[] {
	const results = Buffer.from(program.testRunMany(frames));
	const places: (Address | undefined)[] = [];
	for (let at = 0; at < results.length; ) {
		const [verdict, length] = [results.readUInt32LE(at), results.readUInt32LE(at + 4)];
		places.push(verdict === XDP_TX ? formatAddress(results.subarray(at + 8 + 30, at + 8 + 34)) : undefined);
		at += 8 + length;
	}
	return places;
}

/** Runs bursts for as long as `change` takes, at least one; every packet must go to one of `allowed`. */
async function whileChanging(
	change: Promise<unknown>,
	datapath: BpfDatapath,
	frames: Uint8Array,
	allowed: ReadonlySet<Address>,
): Promise<number> {
	let isDone = false;
	const settled = change.finally(() => {
		isDone = true;
	});
	let packets = 0;
	do {
		for (const place of burst(datapath.instance.program, frames)) {
			assert.ok(place !== undefined && allowed.has(place), `a packet went to ${place ?? 'nowhere'}`);
			packets++;
		}
		await new Promise((resolve) => setImmediate(resolve));
	} while (!isDone);
	await settled;
	return packets;
}

test(`${SWAPS} ring swaps under load lose no packet and show no ring half`, { skip, timeout: 180_000 }, async () => {
	const datapath = await openPrivateDatapath(surroundings(), smallOptions());
	try {
		// Two rings without a common backend, of different length: a rank of one read with the ids of the other shows.
		const [odd, even] = [
			[1, 3, 5, 7, 9, 11, 13],
			[2, 4],
		];
		const allowed = new Set([...odd, ...even].map(backendAddress));
		datapath.putBackends([...odd, ...even].map((n) => put(n)));
		await datapath.swapRings([ring(odd)]);
		await datapath.putVips([vip({ flags: ['no_flow_table'] })]);
		const frames = packed(Array.from({ length: 200 }, (_, n) => packetOf(clientFlow(n))));
		let packets = 0;
		for (let i = 0; i < SWAPS; i++)
			packets += await whileChanging(datapath.swapRings([ring(i % 2 ? odd : even)]), datapath, frames, allowed);
		assert.ok(packets >= 200 * SWAPS);
		assert.equal(datapath.actual().pools.get('web')?.ring?.generation, SWAPS + 1);
		// After the swap only its own backends are left.
		const last = new Set(odd.map(backendAddress));
		await whileChanging(Promise.resolve(), datapath, frames, last);
	} finally {
		await datapath.close();
	}
});

test('vip flips under load lose no packet of a vip that stays', { skip, timeout: 60_000 }, async () => {
	const datapath = await openPrivateDatapath(surroundings(), smallOptions());
	try {
		datapath.putBackends([put(1)]);
		await datapath.swapRings([ring([1])]);
		await datapath.putVips([vip()]);
		const frames = packed(Array.from({ length: 200 }, (_, n) => packetOf(clientFlow(n))));
		for (let i = 0; i < 50; i++) {
			const others = Array.from({ length: 20 }, (_, n) => vip({ port: 1000 + 20 * (i % 3) + n }));
			await whileChanging(datapath.putVips(i % 4 === 0 ? [vip()] : [vip(), ...others]), datapath, frames, new Set([backendAddress(1)]));
		}
	} finally {
		await datapath.close();
	}
});

/** Bytes that the kernel locks for a map. */
function lockedBytes(map: BpfMap): number {
	return Number(/^memlock:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${map.fd}`, 'utf8'))?.[1] ?? Number.NaN);
}

test('512 vips with a pool each lock at most 80 MiB before the flow table', { skip }, async () => {
	const around = surroundings();
	const datapath = await openPrivateDatapath(around, { ...DEFAULT_OPTIONS, flowEntries: 8 });
	const inner = newInnerMap(around.native, datapath.limits);
	try {
		const { maps } = datapath.instance;
		const total = Object.values(maps).reduce((sum, map) => sum + lockedBytes(map), 0) + 512 * lockedBytes(inner);
		assert.ok(total > 512 * 131_072, 'the kernel tells what it locks');
		assert.ok(total <= 80 * MIB, `${(total / MIB).toFixed(1)} MiB`);
	} finally {
		inner.close();
		await datapath.close();
	}
});
