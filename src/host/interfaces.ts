// SPDX-License-Identifier: Apache-2.0
// Facts of network interfaces, read from `ip -j`: index, MAC, MTU and addresses. Only reads.
import { XdpilotError } from '../errors.ts';
import { type Address, parseAddress } from '../model/address.ts';
import { runJson } from './command.ts';

export interface InterfaceAddress {
	readonly address: Address;
	/** Prefix length, 0..32 or 0..128. */
	readonly length: number;
	readonly scope: 'global' | 'link' | 'host' | 'other';
}

export interface HostInterface {
	readonly name: string;
	/** In its own network namespace. */
	readonly index: number;
	/** 6 bytes; empty for interfaces without Ethernet addresses. */
	readonly mac: Uint8Array;
	/** Bytes of an IP packet, without the Ethernet header. */
	readonly mtu: number;
	readonly up: boolean;
	readonly loopback: boolean;
	readonly addresses: readonly InterfaceAddress[];
}

/** All interfaces of a network namespace (this process's own without `netns`). @throws XdpilotError E_HOST */
export async function listInterfaces(netns?: string): Promise<HostInterface[]> {
	const rows = await runJson(['ip', '-j', 'address', 'show'], { netns });
	return Array.isArray(rows) ? rows.flatMap(toInterface) : [];
}

/** One interface by name. @throws XdpilotError E_HOST when there is none of that name, naming those that there are */
export async function findInterface(name: string, netns?: string): Promise<HostInterface> {
	const all = await listInterfaces(netns);
	const found = all.find((i) => i.name === name);
	if (found !== undefined) return found;
	throw new XdpilotError('E_HOST', `there is no interface ${name}`, {
		hint: `the interfaces here are ${all.map((i) => i.name).join(', ')}`,
	});
}

/** Every address that this host answers for: what no backend may have. */
export function ownAddresses(interfaces: readonly HostInterface[]): Address[] {
	return [...new Set(interfaces.flatMap((i) => i.addresses.map((a) => a.address)))];
}

/** Six bytes of a MAC address in the usual form, or undefined. */
export function parseMac(text: string): Uint8Array | undefined {
	return /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(text) ? Uint8Array.from(text.split(':'), (h) => Number.parseInt(h, 16)) : undefined;
}

export function formatMac(mac: Uint8Array): string {
	return Array.from(mac, (b) => b.toString(16).padStart(2, '0')).join(':');
}

/** The members of `ip -j address` that are read here; anything may be absent. */
interface IpInterface {
	ifindex?: number;
	ifname?: string;
	flags?: string[];
	mtu?: number;
	address?: string;
	link_type?: string;
	addr_info?: { local?: string; prefixlen?: number; scope?: string }[];
}

function toInterface(row: unknown): HostInterface[] {
	const r = row as IpInterface;
	// `ip -j address show` prints empty objects for what a filter left out.
	if (r.ifname === undefined || r.ifindex === undefined) return [];
	const flags = r.flags ?? [];
	const mac = r.link_type === 'ether' ? parseMac(r.address ?? '') : undefined;
	return [
		{
			name: r.ifname,
			index: r.ifindex,
			mac: mac ?? new Uint8Array(0),
			mtu: r.mtu ?? 0,
			up: flags.includes('UP'),
			loopback: flags.includes('LOOPBACK'),
			addresses: (r.addr_info ?? []).flatMap(toAddress),
		},
	];
}

function toAddress(info: { local?: string; prefixlen?: number; scope?: string }): InterfaceAddress[] {
	const address = parseAddress(info.local ?? '');
	if (address === undefined || info.prefixlen === undefined) return [];
	const scope = info.scope === 'global' || info.scope === 'link' || info.scope === 'host' ? info.scope : 'other';
	return [{ address, length: info.prefixlen, scope }];
}
