// SPDX-License-Identifier: Apache-2.0
// What hosts compare to prove that they have the same ring. Names the ring by what packets can see: addresses,
// weights, slots; ids, which differ between hosts, are not in it.
import { createHash } from 'node:crypto';
import type { RingSpec } from '../datapath/datapath.ts';
import { mappedBytes } from '../model/address.ts';

/**
 * `sha256:<hex>` over the hash function's name in ASCII, 0x00, ring size u32, count u32, for each member its 16 mapped
 * bytes and weight u32, then each slot's rank u16; all little-endian.
 * @param spec members sorted by address
 * @param slots rank into `spec.members` of each slot
 */
export function ringDigest(spec: Pick<RingSpec, 'hash' | 'members'>, slots: Uint16Array): string {
	return sha256(head(spec, slots.length), littleEndian16(slots));
}

/**
 * `sha256:<hex>` over everything that a ring's map value is made from: equal inputs, equal value.
 * @param ids the data plane's ids of the members, in their order
 */
export function inputsDigest(spec: Pick<RingSpec, 'hash' | 'members'>, ringSize: number, ids: readonly number[] = []): string {
	const bytes = Buffer.alloc(4 * ids.length);
	for (const [i, id] of ids.entries()) bytes.writeUInt32LE(id, 4 * i);
	return sha256(head(spec, ringSize), bytes);
}

function head(spec: Pick<RingSpec, 'hash' | 'members'>, ringSize: number): Buffer {
	const name = Buffer.from(`${spec.hash}\0`, 'ascii');
	const out = Buffer.alloc(name.length + 8 + 20 * spec.members.length);
	let at = name.copy(out);
	at = out.writeUInt32LE(ringSize, at);
	at = out.writeUInt32LE(spec.members.length, at);
	for (const member of spec.members) {
		out.set(mappedBytes(member.address), at);
		at = out.writeUInt32LE(member.weight, at + 16);
	}
	return out;
}

/** The host's own order is little-endian wherever this runs (x86-64, arm64). */
function littleEndian16(words: Uint16Array): Uint8Array {
	return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}

function sha256(...parts: Uint8Array[]): string {
	const hash = createHash('sha256');
	for (const part of parts) hash.update(part);
	return `sha256:${hash.digest('hex')}`;
}
