// SPDX-License-Identifier: Apache-2.0
// Frames for packet tests, built from the RFCs: headers with right lengths and checksums unless a test breaks them on
// purpose. Byte order is the wire's throughout.
import { type Address, addressBytes, familyOf } from '../../src/model/address.ts';

export const ROUTER_MAC = Uint8Array.of(0x02, 0, 0, 0, 0, 0x01);
export const BALANCER_MAC = Uint8Array.of(0x02, 0, 0, 0, 0, 0x02);

export const ETHER_TYPE = { ipv4: 0x0800, arp: 0x0806, vlan: 0x8100, ipv6: 0x86dd } as const;
export const PROTOCOL = { icmp: 1, ipip: 4, tcp: 6, udp: 17, ipv6: 41, fragment: 44, icmp6: 58 } as const;
export const TCP = { fin: 1, syn: 2, rst: 4, ack: 16 } as const;

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
	return Uint8Array.from(parts.flatMap((p) => [...p]));
}

/** Big-endian 16-bit numbers. */
export function words(...values: readonly number[]): Uint8Array {
	return Uint8Array.from(values.flatMap((v) => [(v >> 8) & 0xff, v & 0xff]));
}

/** RFC 1071, over any number of bytes. */
export function checksum(...parts: readonly Uint8Array[]): number {
	const bytes = concat(...parts);
	let sum = 0;
	for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
	while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
	return ~sum & 0xffff;
}

export function ethernet(type: number, payload: Uint8Array): Uint8Array {
	return concat(BALANCER_MAC, ROUTER_MAC, words(type), payload);
}

export interface IpOptions {
	/** DSCP and ECN, or traffic class: all eight bits. */
	readonly tos?: number;
	readonly ttl?: number;
	/** IPv4 only. */
	readonly id?: number;
	/** IPv4 only: flags and offset field. */
	readonly fragment?: number;
	/** IPv4 only: bytes of options, a multiple of 4. */
	readonly options?: Uint8Array;
}

/** An IP packet; the family is the addresses'. */
export function ip(source: Address, dest: Address, protocol: number, payload: Uint8Array, o: IpOptions = {}): Uint8Array {
	const { tos = 0, ttl = 64 } = o;
	if (familyOf(source) === 6) {
		const first = words(0x6000 | (tos << 4), 0, payload.length);
		return concat(first, Uint8Array.of(protocol, ttl), addressBytes(source), addressBytes(dest), payload);
	}
	const options = o.options ?? new Uint8Array(0);
	const head = (sum: number) =>
		concat(
			Uint8Array.of(0x45 + options.length / 4, tos),
			words(20 + options.length + payload.length, o.id ?? 1, o.fragment ?? 0),
			Uint8Array.of(ttl, protocol),
			words(sum),
			addressBytes(source),
			addressBytes(dest),
			options,
		);
	return concat(head(checksum(head(0))), payload);
}

function pseudoHeader(source: Address, dest: Address, protocol: number, length: number): Uint8Array {
	return concat(addressBytes(source), addressBytes(dest), words(0, length, 0, protocol));
}

/** One TCP segment or UDP datagram and the IP packet around it. */
export interface FlowPacket extends IpOptions {
	readonly source: Address;
	readonly dest: Address;
	readonly sourcePort: number;
	readonly destPort: number;
	/** TCP flags; UDP when this is `'udp'`. Default: ACK. */
	readonly flags?: number | 'udp';
	readonly payload?: Uint8Array;
}

/** The transport header and payload of a flow. */
export function transport(p: FlowPacket): Uint8Array {
	const payload = p.payload ?? new Uint8Array(0);
	const ports = words(p.sourcePort, p.destPort);
	if (p.flags === 'udp') {
		const length = 8 + payload.length;
		const sum = checksum(pseudoHeader(p.source, p.dest, PROTOCOL.udp, length), ports, words(length, 0), payload);
		return concat(ports, words(length, sum), payload);
	}
	const before = concat(ports, words(0, 1, 0, 2), Uint8Array.of(0x50, p.flags ?? TCP.ack), words(8192));
	const sum = checksum(pseudoHeader(p.source, p.dest, PROTOCOL.tcp, 20 + payload.length), before, words(0, 0), payload);
	return concat(before, words(sum, 0), payload);
}

export function flowIp(p: FlowPacket): Uint8Array {
	return ip(p.source, p.dest, p.flags === 'udp' ? PROTOCOL.udp : PROTOCOL.tcp, transport(p), p);
}

export function flowFrame(p: FlowPacket): Uint8Array {
	return ipFrame(flowIp(p));
}

/** The frame of an IP packet. */
export function ipFrame(packet: Uint8Array): Uint8Array {
	return ethernet((packet[0] ?? 0) >> 4 === 6 ? ETHER_TYPE.ipv6 : ETHER_TYPE.ipv4, packet);
}

/** An ICMP message of the addresses' family. `rest`: bytes 4 to 7 of its header. */
export function icmp(
	source: Address,
	dest: Address,
	message: { readonly type: number; readonly code?: number; readonly rest?: Uint8Array; readonly payload?: Uint8Array },
	o: IpOptions = {},
): Uint8Array {
	const v6 = familyOf(source) === 6;
	const rest = concat(message.rest ?? new Uint8Array(4), message.payload ?? new Uint8Array(0));
	const start = Uint8Array.of(message.type, message.code ?? 0);
	const pseudo = v6 ? pseudoHeader(source, dest, PROTOCOL.icmp6, 4 + rest.length) : new Uint8Array(0);
	const sum = checksum(pseudo, start, words(0), rest);
	return ipFrame(ip(source, dest, v6 ? PROTOCOL.icmp6 : PROTOCOL.icmp, concat(start, words(sum), rest), o));
}

/** A copy with some bytes replaced. */
export function patch(frame: Uint8Array, at: number, ...bytes: readonly number[]): Uint8Array {
	const copy = frame.slice();
	copy.set(bytes, at);
	return copy;
}

export function hex(bytes: Uint8Array): string {
	return Buffer.from(bytes).toString('hex');
}
