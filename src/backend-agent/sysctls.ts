// SPDX-License-Identifier: Apache-2.0
// The interface settings that a backend with vips on lo needs, and nothing beyond: an address on lo must not be claimed
// by ARP, and a decapsulated packet must not fail the reverse path check for having come by way of the balancer.
import { readFile, writeFile } from 'node:fs/promises';
import { XdpilotError } from '../errors.ts';
import type { SysctlChange } from './state.ts';

const ROOT = '/proc/sys/net/ipv4/conf';

/** Values as they are; `all` and `own` are the settings of conf/all and conf/<interface>. */
export interface ArpAndFilterFacts {
	readonly arpIgnoreAll: number;
	readonly arpAnnounceAll: number;
	readonly rpFilterAll: number;
	readonly rpFilterOwn: number;
}

export async function readSysctlFacts(interfaceName: string): Promise<ArpAndFilterFacts> {
	return {
		arpIgnoreAll: Number(await readSysctl(`${ROOT}/all/arp_ignore`)),
		arpAnnounceAll: Number(await readSysctl(`${ROOT}/all/arp_announce`)),
		rpFilterAll: Number(await readSysctl(`${ROOT}/all/rp_filter`)),
		rpFilterOwn: Number(await readSysctl(`${ROOT}/${interfaceName}/rp_filter`)),
	};
}

/**
 * The changes that IPv4 vips need. The kernel takes the larger of `all` and the interface's own value, so a setting that is
 * strict enough already is left alone.
 */
export function neededSysctls(interfaceName: string, facts: ArpAndFilterFacts): SysctlChange[] {
	const change = (file: string, before: number, after: number): SysctlChange => ({
		name: `${ROOT}/${file}`,
		before: String(before),
		after: String(after),
	});
	const changes: SysctlChange[] = [];
	// 1: answer only for addresses of the interface that was asked. Any interface could be asked, hence `all`.
	if (facts.arpIgnoreAll < 1) changes.push(change('all/arp_ignore', facts.arpIgnoreAll, 1));
	// 2: never name a vip as the sender of an ARP request.
	if (facts.arpAnnounceAll < 2) changes.push(change('all/arp_announce', facts.arpAnnounceAll, 2));
	// 2: loose. The client's address need not be reachable through the interface that the balancer uses.
	if (Math.max(facts.rpFilterAll, facts.rpFilterOwn) === 1) {
		changes.push(change(`${interfaceName}/rp_filter`, facts.rpFilterOwn, 2));
	}
	return changes;
}

export async function readSysctl(path: string): Promise<string> {
	try {
		return (await readFile(path, 'utf8')).trim();
	} catch (cause) {
		throw new XdpilotError('E_HOST', `can't read ${path}`, { cause });
	}
}

export async function writeSysctl(path: string, value: string): Promise<void> {
	try {
		await writeFile(path, value);
	} catch (cause) {
		throw new XdpilotError('E_HOST', `can't write ${path}`, { cause });
	}
}
