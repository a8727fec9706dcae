// SPDX-License-Identifier: Apache-2.0
// Broken frames by the ten thousand, from a seed: whatever arrives, it is passed or dropped as it was, or sent with the
// packet inside unchanged, or answered; and each frame is counted exactly once.
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { address } from '../../src/model/address.ts';
import { loadNative } from '../../src/native/binding.ts';
import { GATEWAY_MAC, LbInstance, VERDICTS, type Verdict } from '../support/lb-instance.ts';
import { flowFrame, flowIp, hex, icmp, ip, ipFrame, PROTOCOL, TCP } from '../support/packet-builder.ts';
import { whyNoBpf } from '../support/privileged.ts';

const FRAMES = 10_000;
const SEED = Number(process.env.FUZZ_SEED ?? 20260101);
const SHORTEST = 14;

const V4 = { vip: address('10.200.1.1'), other: address('10.200.1.2'), client: address('192.168.1.1') };
const V6 = { vip: address('fc00:1::1'), other: address('fc00:1::2'), client: address('fc00:2::1') };

/** Numbers below n, from a seed (mulberry32). */
function generator(seed: number): (n: number) => number {
	let state = seed >>> 0;
	return (n) => {
		state = (state + 0x6d2b79f5) >>> 0;
		let x = Math.imul(state ^ (state >>> 15), state | 1);
		x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
		return ((x ^ (x >>> 14)) >>> 0) % n;
	};
}

/** A good frame of some kind, to one of our vips if `ours`. */
function seedFrame(below: (n: number) => number, ours: boolean): Uint8Array {
	const { vip, other, client } = below(2) ? V4 : V6;
	const v6 = vip === V6.vip;
	const dest = ours ? vip : other;
	const flow = { source: client, dest, sourcePort: below(65536), destPort: 80, payload: new Uint8Array(below(200)) };
	const back = { ...flow, source: dest, dest: client, sourcePort: 80, destPort: flow.sourcePort };
	switch (below(6)) {
		case 0:
			return flowFrame({ ...flow, flags: 'udp' });
		case 1:
			return flowFrame({ ...flow, flags: TCP.syn });
		case 2:
			return icmp(client, dest, { type: v6 ? 128 : 8, payload: flow.payload });
		case 3:
			return icmp(client, dest, { type: v6 ? 1 + below(2) : 3, code: below(5), payload: flowIp(back) });
		case 4:
			return ipFrame(ip(client, dest, [PROTOCOL.ipip, PROTOCOL.ipv6, 0, 43, PROTOCOL.fragment][below(5)] ?? 0, flowIp(flow)));
		default:
			return flowFrame(flow);
	}
}

/** Damages a frame behind its addresses and before them, but never the addresses or the Ethernet header. */
function damage(frame: Uint8Array, below: (n: number) => number): Uint8Array {
	let damaged = frame.slice();
	const addresses = frame[12] === 0x08 ? [26, 34] : [22, 54];
	for (let i = below(4); i > 0; i--) {
		const at = SHORTEST + below(damaged.length - SHORTEST);
		if (at < (addresses[0] ?? 0) || at >= (addresses[1] ?? 0)) damaged[at] = below(256);
	}
	if (below(4) === 0) damaged = damaged.subarray(0, SHORTEST + below(damaged.length - SHORTEST + 1));
	return damaged;
}

function pack(frames: readonly Uint8Array[]): Uint8Array {
	const out = new Uint8Array(frames.reduce((sum, f) => sum + 4 + f.length, 0));
	const view = new DataView(out.buffer);
	let at = 0;
	for (const frame of frames) {
		view.setUint32(at, frame.length, true);
		out.set(frame, at + 4);
		at += 4 + frame.length;
	}
	return out;
}

function unpack(bytes: Uint8Array): { readonly verdict: Verdict; readonly out: Uint8Array }[] {
	const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
	const results = [];
	for (let at = 0; at < bytes.length; ) {
		const length = view.getUint32(at + 4, true);
		results.push({ verdict: VERDICTS[view.getUint32(at, true)] ?? 'aborted', out: bytes.subarray(at + 8, at + 8 + length) });
		at += 8 + length;
	}
	return results;
}

suite('damaged frames', { skip: whyNoBpf() ?? false }, () => {
	function run(ours: boolean, check: (frame: Uint8Array, verdict: Verdict, out: Uint8Array) => void): void {
		const lb = new LbInstance(loadNative(), { options: { serverIds: true } });
		try {
			lb.setVips(
				[V4.vip, V6.vip].flatMap((a, i) =>
					(['tcp', 'udp'] as const).map((protocol) => ({ address: a, port: 80, protocol, pool: i + 1, flags: ['quic' as const] })),
				),
			);
			lb.setBackend(1, '10.0.0.1');
			lb.setBackend(2, 'fc00::1');
			lb.setRing(1, [1, 2]);
			lb.setRing(2, [2]);
			const below = generator(SEED + Number(ours));
			const frames = Array.from({ length: FRAMES }, () => damage(seedFrame(below, ours), below));
			const results = unpack(lb.program.testRunMany(pack(frames)));
			assert.equal(results.length, FRAMES);
			const seen: Record<Verdict, number> = { aborted: 0, drop: 0, pass: 0, tx: 0, redirect: 0 };
			for (const [i, { verdict, out }] of results.entries()) {
				seen[verdict]++;
				const frame = frames[i] ?? new Uint8Array(0);
				try {
					check(frame, verdict, out);
				} catch (cause) {
					throw new Error(`frame ${i} of seed ${SEED}: ${hex(frame)} -> ${verdict} ${hex(out)}`, { cause });
				}
			}
			const [global, drops] = [lb.counters.global(), Object.values(lb.counters.drops())];
			const wrapped = [1, 2, 3, 4].reduce((sum, vip) => sum + Number(lb.counters.vip(vip).packets), 0);
			assert.equal(Number(global.pass), seen.pass);
			assert.equal(Number(drops.reduce((sum, n) => sum + n, 0n)), seen.drop);
			assert.equal(wrapped + Number(global.echo_reply), seen.tx);
			assert.equal(seen.aborted + seen.redirect, 0);
		} finally {
			lb.close();
		}
	}

	test('to other addresses all pass untouched', () => {
		run(false, (frame, verdict, out) => {
			assert.equal(verdict, 'pass');
			assert.equal(hex(out), hex(frame));
		});
	});

	test('to vips are passed or dropped as they were, or sent with the packet inside unchanged', () => {
		run(true, (frame, verdict, out) => {
			if (verdict !== 'tx') {
				assert.equal(hex(out), hex(frame));
				return;
			}
			const isReply = hex(out.subarray(0, 6)) !== hex(GATEWAY_MAC);
			if (isReply) {
				assert.equal(out.length, frame.length);
				return;
			}
			const outer = out[12] === 0x08 ? 20 : 40;
			assert.equal(hex(out.subarray(SHORTEST + outer)), hex(frame.subarray(SHORTEST)));
		});
	});
});
