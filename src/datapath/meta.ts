// SPDX-License-Identifier: Apache-2.0
// The pinned row that says what a set of maps was made with. Its format word is stored last when it is made: maps
// without it were never finished, and nothing runs on them.
import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { XdpilotError } from '../errors.ts';
import { decodeMeta, encodeMeta, LAYOUT_HASH, LB_CONFIG_OFFSET, META_OFFSET, META_SIZE, type Meta } from './abi.gen.ts';
import type { DatapathLimits } from './datapath.ts';

/** META_FORMAT of bpf/lb_abi.h. */
const META_FORMAT = 1;
const KEY_WORDS = (LB_CONFIG_OFFSET.ringSize - LB_CONFIG_OFFSET.flowKey) / 8;

export type MetaContent = Omit<Meta, 'format' | 'layoutHash'>;

/** The secret that keys the flow table: who can't guess it can't aim at one bucket. */
export function drawFlowKey(): bigint[] {
	const bytes = randomBytes(8 * KEY_WORDS);
	return Array.from({ length: KEY_WORDS }, (_, i) => bytes.readBigUInt64LE(8 * i));
}

/** Inode of this process' network namespace. */
export function currentNetns(): bigint {
	return statSync('/proc/self/ns/net', { bigint: true }).ino;
}

export class MetaRow {
	readonly #memory: ArrayBuffer;

	constructor(memory: ArrayBuffer) {
		this.#memory = memory;
	}

	/** undefined = the maps were never finished. */
	read(): Meta | undefined {
		const meta = decodeMeta(new DataView(this.#memory));
		return meta.format === 0 ? undefined : meta;
	}

	write(content: MetaContent): void {
		const format = new Uint32Array(this.#memory, META_OFFSET.format, 1);
		Atomics.store(format, 0, 0);
		const bytes = new Uint8Array(META_SIZE);
		encodeMeta(new DataView(bytes.buffer), 0, { ...content, format: 0, layoutHash: Buffer.from(LAYOUT_HASH, 'hex') });
		new Uint8Array(this.#memory, 0, META_SIZE).set(bytes);
		Atomics.store(format, 0, META_FORMAT);
	}

	/** Notes another program on the same maps: 64 bytes, compared at the next start, harmless when half written. */
	update(hashes: Pick<Meta, 'objectHash' | 'optionsHash'>): void {
		const bytes = new Uint8Array(this.#memory);
		bytes.set(hashes.objectHash, META_OFFSET.objectHash);
		bytes.set(hashes.optionsHash, META_OFFSET.optionsHash);
	}
}

/** @throws XdpilotError E_DATAPATH when these maps serve an interface of the same number elsewhere */
export function checkNetns(meta: Meta): void {
	if (meta.netns === currentNetns()) return;
	throw new XdpilotError('E_DATAPATH', 'what is pinned serves an interface of the same number in another network namespace', {
		unaffected: 'it goes on forwarding, untouched',
		hint: 'give this instance a datapath.pin_path of its own',
	});
}

/** @throws XdpilotError E_ABI_MISMATCH when these maps are of another build, or their rings of another size */
export function checkMeta(meta: Meta, limits: DatapathLimits): void {
	const layout = Buffer.from(meta.layoutHash).toString('hex');
	if (meta.format !== META_FORMAT || layout !== LAYOUT_HASH) {
		throw refused(`the pinned maps have layout ${layout.slice(0, 12)}, this version has ${LAYOUT_HASH.slice(0, 12)}`);
	}
	for (const name of ['ringSize', 'maxBackendsPerPool'] as const) {
		if (meta[name] !== limits[name]) throw refused(`the pinned rings have ${name} ${meta[name]}, this configuration ${limits[name]}`);
	}
}

function refused(message: string): XdpilotError {
	return new XdpilotError('E_ABI_MISMATCH', message, {
		unaffected: 'what is pinned goes on forwarding, untouched',
		hint: 'take the old instance down first: xdpilot detach',
	});
}
