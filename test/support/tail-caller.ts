// SPDX-License-Identifier: Apache-2.0
// The programs of bpf/bench/wrap.bpf.c, which call the program under test: `wrap` repeats one packet, or rotates its
// source, as if each repeat were the first; `tight` leaves no room for a header.
import { fileURLToPath } from 'node:url';
import type { BpfMap, BpfProgram } from '../../src/native/addon.d.ts';
import type { NativeAddon } from '../../src/native/binding.ts';

export const WRAP_OBJECT = fileURLToPath(new URL('../../build/bpf/wrap.bpf.o', import.meta.url));

const PROGRAMS = ['wrap', 'tight', 'floor_tx', 'floor_adjust4', 'floor_adjust6'] as const;
export type WrapProgram = (typeof PROGRAMS)[number];

/** struct bench of wrap.bpf.c, as 32-bit words. */
const WORD = { length: 0, rotate: 1, flowMask: 2, flowBase: 3, seq: 4, vipBase: 5, vipMask: 6, ethernet: 8 } as const;

export interface Rotation {
	/** Number of flows, a power of two up to 2^32. */
	readonly flows: number;
	/** Where the sequence of flows begins: two bases far apart share no flow. */
	readonly base?: number;
	/** Spreads the flows over this many vips (a power of two), from this IPv4 address on by its last byte. */
	readonly vips?: { readonly first: Uint8Array; readonly count: number };
}

export class TailCaller {
	readonly #programs: ReadonlyMap<WrapProgram, BpfProgram>;
	readonly #target: BpfMap;
	readonly #words: Uint32Array;

	constructor(native: NativeAddon) {
		const object = native.BpfObject.open(WRAP_OBJECT);
		object.load();
		this.#programs = new Map(PROGRAMS.map((name) => [name, object.program(name)]));
		this.#target = object.map('target');
		const bss = object.map('wrap.bss');
		this.#words = new Uint32Array(bss.mmap(), 0, 12);
		bss.close();
		object.close();
	}

	program(name: WrapProgram): BpfProgram {
		const program = this.#programs.get(name);
		if (program === undefined) throw new Error(`no program ${name}`);
		return program;
	}

	/** The program that `wrap` and `tight` go on with. */
	setTarget(program: BpfProgram): void {
		this.#target.update(new Uint8Array(4), new Uint8Array(Uint32Array.of(program.fd).buffer));
	}

	/** The frame that `wrap` restores, and how its source changes. */
	setFrame(frame: Uint8Array, rotation?: Rotation): void {
		const w = this.#words;
		w.fill(0);
		w[WORD.length] = frame.length;
		new Uint8Array(w.buffer, w.byteOffset + 4 * WORD.ethernet, 14).set(frame.subarray(0, 14));
		if (rotation === undefined) return;
		w[WORD.rotate] = frame[12] === 0x08 ? 4 : 6;
		w[WORD.flowMask] = rotation.flows - 1;
		w[WORD.flowBase] = rotation.base ?? 0;
		if (rotation.vips === undefined) return;
		w[WORD.vipBase] = new DataView(rotation.vips.first.buffer).getUint32(0, true);
		w[WORD.vipMask] = rotation.vips.count - 1;
	}

	/** Begins the rotation again. */
	rewind(): void {
		this.#words[WORD.seq] = 0;
	}

	close(): void {
		for (const program of this.#programs.values()) program.close();
		this.#target.close();
	}
}
