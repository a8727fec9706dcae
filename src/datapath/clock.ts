// SPDX-License-Identifier: Apache-2.0
// The clock of the flow table: jiffies, whose rate no interface tells. A tiny program reads them; the rate is
// measured once, when the maps are made, and kept with them.
import { fileURLToPath } from 'node:url';
import { type Env, sleep } from '../env.ts';
import type { BpfProgram } from '../native/addon.d.ts';
import type { NativeAddon } from '../native/binding.ts';
import { FlowLayout } from './abi.gen.ts';
import { kernelCall } from './kernel-error.ts';

/** CONFIG_HZ can be one of these on x86-64 and arm64. */
const RATES = [100, 250, 300, 1000] as const;
/** Far longer than a tick, short enough for a start. */
const MEASURE_MS = 40;
const ATTEMPTS = 6;
const TOLERANCE = 0.05;
/** A time unit of the flow table is the power of two of jiffies nearest to this. */
const UNIT_MS = 64;
const FRAME_BYTES = 64;
/** Bounds the wait for a tick edge: many times the longest tick. */
const MAX_SPINS = 200_000;

export const CLOCK_OBJECT = fileURLToPath(new URL('../../build/bpf/clock.bpf.o', import.meta.url));

export interface Clock {
	/** Jiffies a second. */
	readonly hz: number;
	/** A time unit is 1 << shift jiffies. */
	readonly shift: number;
	/** The present time unit, modulo 2^24, as entries of the flow table carry it. */
	now(): number;
	close(): void;
}

interface Tick {
	readonly jiffies: bigint;
	readonly nanoseconds: bigint;
}

/** Loads the clock's program; measures the rate unless it is known from pinned state. */
export async function openClock(native: NativeAddon, env: Env, known?: { readonly hz: number; readonly shift: number }): Promise<Clock> {
	const program = loadClock(native);
	const hz = known?.hz ?? (await measureRate(program, env));
	const shift = known?.shift ?? Math.max(0, Math.round(Math.log2((hz * UNIT_MS) / 1000)));
	const mask = (1n << BigInt(FlowLayout.FLOW_TIME_BITS)) - 1n;
	return {
		hz,
		shift,
		now: () => Number((read(program).jiffies >> BigInt(shift)) & mask),
		close: () => program.close(),
	};
}

function loadClock(native: NativeAddon): BpfProgram {
	return kernelCall(
		'load the clock program',
		() => {
			const object = native.BpfObject.open(CLOCK_OBJECT);
			try {
				object.load();
				return object.program('clock');
			} finally {
				object.close();
			}
		},
		'E_NATIVE',
	);
}

function read(program: BpfProgram): Tick {
	const { out } = kernelCall('read the clock', () => program.testRun(new Uint8Array(FRAME_BYTES)));
	const view = new DataView(out.buffer, out.byteOffset, out.byteLength);
	return { jiffies: view.getBigUint64(0, true), nanoseconds: view.getBigUint64(8, true) };
}

/** Between two tick edges; a busy machine shows them late, which a longer wait makes up for. */
async function measureRate(program: BpfProgram, env: Env): Promise<number> {
	for (let attempt = 1, wait = MEASURE_MS; ; attempt++, wait *= 2) {
		const start = nextTick(program);
		await sleep(env, wait);
		const end = nextTick(program);
		const rate = (Number(end.jiffies - start.jiffies) * 1e9) / Number(end.nanoseconds - start.nanoseconds);
		const [nearest] = [...RATES].sort((a, b) => Math.abs(rate / a - 1) - Math.abs(rate / b - 1));
		if (nearest !== undefined && (attempt === ATTEMPTS || Math.abs(rate / nearest - 1) < TOLERANCE)) return nearest;
	}
}

/** The first reading after a tick: its nanoseconds are those of the edge. */
function nextTick(program: BpfProgram): Tick {
	const first = read(program);
	for (let i = 0; i < MAX_SPINS; i++) {
		const tick = read(program);
		if (tick.jiffies !== first.jiffies) return tick;
	}
	return first;
}
