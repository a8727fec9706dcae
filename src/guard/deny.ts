// SPDX-License-Identifier: Apache-2.0
// Addresses that no backend may have, whoever lists them. A backend that is this host, a vip or a group address
// turns a trickle of datagrams into a flood or a silent black hole; the data plane checks its part of this again.
import { type Address, addressBytes, familyOf, formatAddress, type Prefix, parsePrefix } from '../model/address.ts';
import { formatEndpoint, type Vip } from '../model/vip.ts';
import { PrefixSet } from './prefix-set.ts';

/** An address of this host with the length of its subnet, as `ip address` shows it. */
export interface OwnAddress {
	readonly address: Address;
	readonly length: number;
}

/** IANA's special-purpose ranges that can't be a server. Mapped IPv4 (::ffff:0:0/96) has become IPv4 when it was parsed. */
const SPECIAL: readonly (readonly [string, string])[] = [
	['0.0.0.0/8', 'is unspecified (0.0.0.0/8)'],
	['127.0.0.0/8', 'is a loopback address'],
	['169.254.0.0/16', 'is link-local'],
	['224.0.0.0/4', 'is a multicast address'],
	['255.255.255.255/32', 'is the broadcast address'],
	['240.0.0.0/4', 'is reserved (240.0.0.0/4)'],
	['::/128', 'is unspecified'],
	['::1/128', 'is a loopback address'],
	['::/96', 'is an IPv4-compatible address (::/96)'],
	['64:ff9b::/96', 'is an address of a translator (64:ff9b::/96)'],
	['100::/64', 'is discard-only (100::/64), the outer source of this load balancer'],
	['fe80::/10', 'is link-local'],
	['ff00::/8', 'is a multicast address'],
];

/** Answers why an address can't be a backend. Built once for a configuration and the host's addresses. */
export class DenyList {
	readonly #special: PrefixSet<string>;
	readonly #vips: PrefixSet<string>;
	readonly #own: ReadonlyMap<Address, string>;

	constructor(own: readonly OwnAddress[], vips: Iterable<Vip>) {
		this.#special = new PrefixSet(SPECIAL.map(([text, reason]) => [wellKnown(text), reason] as const));
		this.#vips = new PrefixSet([...vips].map((v) => [v.prefix, `is the vip ${formatEndpoint(v.prefix.address, v.port)}`] as const));
		this.#own = new Map([
			...own.flatMap((o) => broadcastOf(o).map((b) => [b, `is the broadcast address of ${o.address}/${o.length}`] as const)),
			...own.map((o) => [o.address, "is this host's own address"] as const),
		]);
	}

	/** The reason as the end of a sentence that starts with the address, or undefined. `local` allows own addresses. */
	reason(a: Address, local = false): string | undefined {
		const own = this.#own.get(a);
		return this.#special.find(a) ?? this.#vips.find(a) ?? (local && own?.startsWith('is this host') ? undefined : own);
	}
}

function wellKnown(text: string): Prefix {
	const prefix = parsePrefix(text);
	if (prefix === undefined) throw new TypeError(`not a prefix: ${text}`);
	return prefix;
}

/** The directed broadcast address of an IPv4 subnet; /31 and /32 have none (RFC 3021). */
function broadcastOf({ address, length }: OwnAddress): Address[] {
	if (familyOf(address) !== 4 || length >= 31) return [];
	const bytes = addressBytes(address);
	for (let i = 0; i < 4; i++) bytes[i] = (bytes[i] ?? 0) | (0xff >> Math.min(8, Math.max(0, length - 8 * i)));
	return [formatAddress(bytes)];
}
