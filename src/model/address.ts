// SPDX-License-Identifier: Apache-2.0
// IP addresses as canonical text, parsed once, here. Spellings that C resolvers accept and Node does not
// (010.0.0.1, 0x0a000001, 10.1) are refused, zones too (SocketAddress would drop them silently), and an
// IPv4-mapped IPv6 address becomes its IPv4 form, so that one host never has two names.
import { isIPv4, isIPv6 } from 'node:net';

declare const brand: unique symbol;
/** Canonical text of an IPv4 or IPv6 address (RFC 5952 form, no zone, never IPv4-mapped). */
export type Address = string & { readonly [brand]: 'Address' };
export type Family = 4 | 6;

/** An address prefix; `address` has its host bits cleared. */
export interface Prefix {
	readonly address: Address;
	/** 0..32 or 0..128 */
	readonly length: number;
}

/** Parses one address, or returns undefined if the text is not exactly one. */
export function parseAddress(text: string): Address | undefined {
	if (isIPv4(text)) return text as Address;
	if (text.includes('%') || !isIPv6(text)) return undefined;
	return formatAddress(ipv6Bytes(text));
}

/** Parses an address that the caller knows to be good. @throws TypeError otherwise */
export function address(text: string): Address {
	const a = parseAddress(text);
	if (a === undefined) throw new TypeError(`not an IP address: ${JSON.stringify(text)}`);
	return a;
}

export function familyOf(a: Address): Family {
	return a.includes(':') ? 6 : 4;
}

/** Network-order bytes: 4 for IPv4, 16 for IPv6. */
export function addressBytes(a: Address): Uint8Array {
	return familyOf(a) === 4 ? Uint8Array.from(a.split('.'), Number) : ipv6Bytes(a);
}

/** 16 network-order bytes; IPv4 as ::ffff:a.b.c.d (RFC 4291 2.5.5.2). */
export function mappedBytes(a: Address): Uint8Array {
	const bytes = addressBytes(a);
	if (bytes.length === 16) return bytes;
	const out = new Uint8Array(16);
	out[10] = out[11] = 0xff;
	out.set(bytes, 12);
	return out;
}

/** Canonical text for 4 or 16 network-order bytes. @throws TypeError for any other length */
export function formatAddress(bytes: Uint8Array): Address {
	if (bytes.length === 4) return bytes.join('.') as Address;
	if (bytes.length !== 16) throw new TypeError(`an address has 4 or 16 bytes, got ${bytes.length}`);
	const mapped = bytes.subarray(0, 10).every((b) => b === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
	if (mapped) return bytes.subarray(12).join('.') as Address;
	const words = Array.from({ length: 8 }, (_, i) => ((bytes[2 * i] ?? 0) << 8) | (bytes[2 * i + 1] ?? 0));
	const { start, length } = longestZeroRun(words);
	const hex = (part: number[]) => part.map((w) => w.toString(16)).join(':');
	if (length < 2) return hex(words) as Address;
	return `${hex(words.slice(0, start))}::${hex(words.slice(start + length))}` as Address;
}

/** Order by mapped bytes: every IPv4 address sorts at ::ffff:0:0/96 of the IPv6 order. */
export function compareAddresses(a: Address, b: Address): number {
	return Buffer.compare(mappedBytes(a), mappedBytes(b));
}

/** A copy in the order of compareAddresses, stable; each address is parsed once, not once a comparison. */
export function sortedByAddress<T>(items: Iterable<T>, addressOf: (item: T) => Address): T[] {
	const keyed = Array.from(items, (item) => ({ key: Buffer.from(mappedBytes(addressOf(item))), item }));
	return keyed.sort((a, b) => Buffer.compare(a.key, b.key)).map(({ item }) => item);
}

/** Parses "address/length", or a bare address as a host prefix; undefined if it is neither. */
export function parsePrefix(text: string): Prefix | undefined {
	const slash = text.indexOf('/');
	const a = parseAddress(slash < 0 ? text : text.slice(0, slash));
	if (a === undefined) return undefined;
	const max = familyOf(a) === 4 ? 32 : 128;
	if (slash < 0) return { address: a, length: max };
	const digits = text.slice(slash + 1);
	if (!/^(0|[1-9]\d{0,2})$/.test(digits) || Number(digits) > max) return undefined;
	return { address: maskAddress(a, Number(digits)), length: Number(digits) };
}

export function formatPrefix(p: Prefix): string {
	return `${p.address}/${p.length}`;
}

export function prefixContains(p: Prefix, a: Address): boolean {
	return familyOf(p.address) === familyOf(a) && maskAddress(a, p.length) === p.address;
}

function maskAddress(a: Address, length: number): Address {
	const bytes = addressBytes(a);
	for (let i = 0; i < bytes.length; i++) {
		const keep = Math.min(8, Math.max(0, length - 8 * i));
		bytes[i] = (bytes[i] ?? 0) & (0xff00 >> keep) & 0xff;
	}
	return formatAddress(bytes);
}

function ipv6Bytes(text: string): Uint8Array {
	const [head = '', tail] = text.split('::');
	const left = groups(head);
	const right = tail === undefined ? [] : groups(tail);
	const words = [...left, ...new Array<number>(8 - left.length - right.length).fill(0), ...right];
	return Uint8Array.from(words.flatMap((w) => [w >> 8, w & 0xff]));
}

function groups(part: string): number[] {
	if (part === '') return [];
	return part.split(':').flatMap((g) => {
		if (!g.includes('.')) return [Number.parseInt(g, 16)];
		const [a = 0, b = 0, c = 0, d = 0] = g.split('.').map(Number);
		return [(a << 8) | b, (c << 8) | d];
	});
}

function longestZeroRun(words: number[]): { start: number; length: number } {
	let best = { start: 0, length: 0 };
	for (let i = 0; i < words.length; ) {
		let n = 0;
		while (i + n < words.length && words[i + n] === 0) n++;
		if (n > best.length) best = { start: i, length: n };
		i += n + 1;
	}
	return best;
}
