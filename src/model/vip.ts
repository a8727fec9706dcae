// SPDX-License-Identifier: Apache-2.0
// What clients connect to: an address (or prefix), a port (0 = every port) and a protocol.
import { type Address, familyOf, type Prefix } from './address.ts';

export type Protocol = 'tcp' | 'udp';
/** IANA protocol numbers. */
export const PROTOCOL_NUMBER: Readonly<Record<Protocol, number>> = { tcp: 6, udp: 17 };

/** Flag names in configuration order; their bits in the data plane are `enum vip_flag` of bpf/lb_abi.h. */
export const VIP_FLAGS = [
	'hash_no_source_port',
	'no_flow_table',
	'quic',
	'hash_dest_port_only',
	'source_routing',
	'local',
	'global_flow_table',
	'hash_source_dest_port',
	'udp_stable_routing',
	'udp_flow_migration',
] as const;
export type VipFlag = (typeof VIP_FLAGS)[number];

export interface Vip {
	/** A host prefix (/32, /128) for a vip that is one address. */
	readonly prefix: Prefix;
	/** 0 = every port */
	readonly port: number;
	readonly protocol: Protocol;
	/** Name of the pool that serves it. */
	readonly pool: string;
	/** Sorted in VIP_FLAGS order, without duplicates. */
	readonly flags: readonly VipFlag[];
}

/** Identity of a vip, e.g. `203.0.113.10:443/tcp`, `[2001:db8::1]:0/udp`, `[fc00:1::]:80/tcp@96`. */
export function vipKey(v: Pick<Vip, 'prefix' | 'port' | 'protocol'>): string {
	return `${formatEndpoint(v.prefix.address, v.port)}/${v.protocol}${isHost(v.prefix) ? '' : `@${v.prefix.length}`}`;
}

/** `address:port`, IPv6 in brackets. */
export function formatEndpoint(a: Address, port: number): string {
	return familyOf(a) === 6 ? `[${a}]:${port}` : `${a}:${port}`;
}

export function isHost(p: Prefix): boolean {
	return p.length === (familyOf(p.address) === 4 ? 32 : 128);
}
