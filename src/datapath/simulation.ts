// SPDX-License-Identifier: Apache-2.0
// Runs frames one by one through a private datapath and tells from the counters what the program made of each: which
// vip and backend it counted the frame for, or why it dropped it.
import type { Address } from '../model/address.ts';
import type { BpfDatapath } from './bpf-datapath.ts';
import type { DatapathCounters } from './datapath.ts';

export interface SimulatedFrame {
	readonly verdict: 'tx' | 'pass' | 'drop';
	/** The frame after the program. */
	readonly out: Uint8Array;
	/** vipKey() of the vip that it was forwarded for. */
	readonly vip: string | null;
	readonly backend: Address | null;
	/** Why it was dropped, or what else became of it than being forwarded or left alone. */
	readonly reason: string | null;
}

/** Shorter ones never reach a program: they are no Ethernet frames. */
const ETHERNET_HEADER = 14;
/** Counters that say what became of a frame that no backend got. */
const OTHER_FATES = ['echo_reply', 'too_big_ipv4', 'too_big_ipv6', 'local', 'decap_egress'] as const;

export class Simulation {
	readonly #datapath: BpfDatapath;
	#before: DatapathCounters;

	/** Nothing else may use the datapath from now on. */
	constructor(datapath: BpfDatapath) {
		this.#datapath = datapath;
		this.#before = datapath.counters();
	}

	run(frame: Uint8Array): SimulatedFrame {
		if (frame.length < ETHERNET_HEADER) return { verdict: 'drop', out: frame, vip: null, backend: null, reason: 'truncated' };
		const { verdict, out } = this.#datapath.testRun(frame);
		const before = this.#before;
		const after = this.#datapath.counters();
		this.#before = after;
		const vip = [...after.vips].find(([key, c]) => c.packets !== before.vips.get(key)?.packets)?.[0] ?? null;
		const drop = changed(before.drops, after.drops);
		const other = OTHER_FATES.find((name) => after.global[name] !== before.global[name]) ?? null;
		// The program never aborts or redirects of its own will; both would lose the frame.
		const shown = verdict === 'tx' || verdict === 'pass' ? verdict : 'drop';
		return { verdict: shown, out, vip, backend: changedBackend(before, after), reason: drop ?? other };
	}
}

function changed(before: Readonly<Record<string, bigint>>, after: Readonly<Record<string, bigint>>): string | null {
	return Object.keys(after).find((name) => after[name] !== before[name]) ?? null;
}

function changedBackend(before: DatapathCounters, after: DatapathCounters): Address | null {
	for (const [pool, backends] of after.backends) {
		const old = before.backends.get(pool);
		for (const [address, { packets }] of backends) if (packets !== old?.get(address)?.packets) return address;
	}
	return null;
}
