// SPDX-License-Identifier: Apache-2.0
// What should leave the balancer, computed from the rules of docs/katran-compatibility.md and not from the program:
// the outer headers of IPIP, IP6IP6 and IPv4 in IPv6 around an untouched packet.
import { type Address, addressBytes, familyOf } from '../../src/model/address.ts';
import { BALANCER_MAC, checksum, concat, ETHER_TYPE, PROTOCOL, words } from './packet-builder.ts';

/** What the outer source address is made of. */
export interface Client {
	/** The flow's source address, or the unspecified one for a vip that hashes its destination port only. */
	readonly address: Address;
	/** The flow's source port, or 0 for a vip that hashes no source port. */
	readonly port: number;
}

/** The frame that carries `packet` (an IP packet) to `backend`. */
export function wrapped(packet: Uint8Array, backend: Address, client: Client, gateway: Uint8Array): Uint8Array {
	const v6 = familyOf(backend) === 6;
	const outer = v6 ? outerIpv6(packet, backend, client) : outerIpv4(packet, backend, client);
	return concat(gateway, BALANCER_MAC, words(v6 ? ETHER_TYPE.ipv6 : ETHER_TYPE.ipv4), outer, packet);
}

function outerIpv4(packet: Uint8Array, backend: Address, { address, port }: Client): Uint8Array {
	const [, , s2 = 0, s3 = 0] = addressBytes(address);
	const length = 20 + view(packet).getUint16(2);
	const source = Uint8Array.of(172, 16, s2 ^ (port & 0xff), s3 ^ (port >> 8));
	const head = (sum: number) =>
		concat(
			Uint8Array.of(0x45, packet[1] ?? 0),
			words(length, 0, 0),
			Uint8Array.of(64, PROTOCOL.ipip),
			words(sum),
			source,
			addressBytes(backend),
		);
	return head(checksum(head(0)));
}

function outerIpv6(packet: Uint8Array, backend: Address, { address, port }: Client): Uint8Array {
	const inner6 = (packet[0] ?? 0) >> 4 === 6;
	const tos = inner6 ? (view(packet).getUint16(0) >> 4) & 0xff : (packet[1] ?? 0);
	const length = inner6 ? 40 + view(packet).getUint16(4) : view(packet).getUint16(2);
	const [a = 0, b = 0, c = 0, d = 0] = addressBytes(address).slice(-4);
	const source = concat(Uint8Array.of(1, 0), new Uint8Array(10), Uint8Array.of(a ^ (port >> 8), b ^ (port & 0xff), c, d));
	const start = concat(words(0x6000 | (tos << 4), 0, length), Uint8Array.of(inner6 ? PROTOCOL.ipv6 : PROTOCOL.ipip, 64));
	return concat(start, source, addressBytes(backend));
}

function view(bytes: Uint8Array): DataView {
	return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
