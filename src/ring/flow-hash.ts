// SPDX-License-Identifier: Apache-2.0
// The ring slot of a flow, as the XDP program finds it (bpf/ring.h): Bob Jenkins' public-domain lookup3
// (burtleburtle.net/bob/c/lookup3.c) in the form of Linux' jhash, over the source address and the two ports.

/** Start values of the two hashes; see KATRAN_SEEDS. */
export interface FlowSeeds {
	/** Of the hash of address word and ports. */
	readonly flow: number;
	/** Of the hash that folds an IPv6 address into one word. */
	readonly address6: number;
}

/** What Katran's data plane is built with: 512 vips times 65537 slots, and 512. Hosts that share an ECMP group need equal ones. */
export const KATRAN_SEEDS: FlowSeeds = { flow: 512 * 65537, address6: 512 };

/** What of a packet is hashed, once the vip's flags had their say. */
export interface HashInput {
	/** 4 or 16 network-order bytes. */
	readonly source: Uint8Array;
	/** Host order. */
	readonly sourcePort: number;
	readonly destPort: number;
}

/** The slot of a ring of `ringSize` that this flow takes. */
export function flowSlot(input: HashInput, ringSize: number, seeds: FlowSeeds): number {
	return flowHash(input, seeds) % ringSize;
}

/** The hash itself, 32 bits. @throws TypeError if `source` has neither 4 nor 16 bytes */
export function flowHash(input: HashInput, seeds: FlowSeeds): number {
	if (input.source.length !== 4 && input.source.length !== 16) throw new TypeError(`an address has 4 or 16 bytes`);
	const address = input.source.length === 4 ? word(input.source, 0) : jhashAddress(input.source, seeds.address6);
	return jhashTwoWords(address, swap16(input.sourcePort) | (swap16(input.destPort) << 16), seeds.flow);
}

const START = 0xdeadbeef;
const rotate = (x: number, by: number) => (x << by) | (x >>> (32 - by));

/** lookup3's final() over two words. */
export function jhashTwoWords(a: number, b: number, seed: number): number {
	const start = (START + 8 + seed) | 0;
	return final((a + start) | 0, (b + start) | 0, start);
}

/** 16 bytes: one mix() of the first three words, then final() with the fourth. */
export function jhashAddress(bytes: Uint8Array, seed: number): number {
	const start = (START + 16 + seed) | 0;
	let a = (start + word(bytes, 0)) | 0;
	let b = (start + word(bytes, 4)) | 0;
	let c = (start + word(bytes, 8)) | 0;
	a = ((a - c) | 0) ^ rotate(c, 4);
	c = (c + b) | 0;
	b = ((b - a) | 0) ^ rotate(a, 6);
	a = (a + c) | 0;
	c = ((c - b) | 0) ^ rotate(b, 8);
	b = (b + a) | 0;
	a = ((a - c) | 0) ^ rotate(c, 16);
	c = (c + b) | 0;
	b = ((b - a) | 0) ^ rotate(a, 19);
	a = (a + c) | 0;
	c = ((c - b) | 0) ^ rotate(b, 4);
	b = (b + a) | 0;
	return final((a + word(bytes, 12)) | 0, b, c);
}

function final(a: number, b: number, c: number): number {
	c = ((c ^ b) - rotate(b, 14)) | 0;
	a = ((a ^ c) - rotate(c, 11)) | 0;
	b = ((b ^ a) - rotate(a, 25)) | 0;
	c = ((c ^ b) - rotate(b, 16)) | 0;
	a = ((a ^ c) - rotate(c, 4)) | 0;
	b = ((b ^ a) - rotate(a, 14)) | 0;
	c = ((c ^ b) - rotate(b, 24)) | 0;
	return c >>> 0;
}

/** Little-endian, as the program loads network-order bytes. */
function word(bytes: Uint8Array, at: number): number {
	return (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24);
}

/** A port's two network-order bytes, read as a little-endian word. */
function swap16(port: number): number {
	return ((port & 0xff) << 8) | (port >>> 8);
}
