// SPDX-License-Identifier: Apache-2.0
// What a new configuration changes, in words, and what of it has to wait for the next start. Pure.
import type { Config } from '../config/schema.ts';
import { isHost } from '../model/vip.ts';
import { vipsByKey } from '../reconcile/desired.ts';
import { usesPrefixVips, usesServerIds } from './settings.ts';

export interface ConfigChanges {
	/** One sentence each; empty when the configuration says what it said before. */
	readonly changes: readonly string[];
	/** Keys that changed but are read at the start only: the loaded program and open sockets are made from them. */
	readonly atNextStart: readonly string[];
}

/** Keys of `datapath` that a running program can follow. */
const FOLLOWED: readonly (keyof Config['datapath'])[] = ['gateway_mac', 'server_ids', 'encap'];

export function configChanges(before: Config, after: Config): ConfigChanges {
	const changes = [
		...named('source', before.sources, after.sources),
		...named('pool', before.pools, after.pools),
		...named('vip', vipsByKey(before.vips), vipsByKey(after.vips)),
		...changed('allowed_backends', before.allowed_backends, after.allowed_backends),
		...changed('allowed_vips', before.allowed_vips, after.allowed_vips),
		...changed('log.level', before.log.level, after.log.level),
		...FOLLOWED.flatMap((key) => changed(`datapath.${key}`, before.datapath[key], after.datapath[key])),
	];
	const serverIds = usesServerIds(before) === usesServerIds(after) ? [] : ['datapath.server_ids'];
	const prefixes = usesPrefixVips(after) && !usesPrefixVips(before) ? ['vips (those that are prefixes)'] : [];
	return {
		changes,
		atNextStart: [...startKeys('datapath', before, after), ...serverIds, ...prefixes, ...startKeys('control', before, after)],
	};
}

/** The new configuration as far as a running daemon can follow it: what its program and its socket were made from stays. */
export function followable(running: Config, next: Config): Config {
	const { gateway_mac, server_ids, encap } = next.datapath;
	const vips = usesPrefixVips(running) ? next.vips : next.vips.filter((v) => isHost(v.prefix));
	return { ...next, vips, datapath: { ...running.datapath, gateway_mac, server_ids, encap }, control: running.control };
}

function startKeys(section: 'datapath' | 'control', before: Config, after: Config): string[] {
	const [old, now]: [object, object] = [before[section], after[section]];
	const keys = new Set([...Object.keys(old), ...Object.keys(now)]);
	const followed: readonly string[] = section === 'datapath' ? FOLLOWED : [];
	return [...keys]
		.filter((key) => !followed.includes(key) && textOf(Reflect.get(old, key)) !== textOf(Reflect.get(now, key)))
		.map((key) => `${section}.${key === 'interfaces' ? 'interface' : key}`);
}

function named<T>(what: string, before: ReadonlyMap<string, T>, after: ReadonlyMap<string, T>): string[] {
	const all = new Set([...before.keys(), ...after.keys()]);
	return [...all].flatMap((name) => {
		const [old, now] = [before.get(name), after.get(name)];
		if (old === undefined) return `${what} ${name} added`;
		if (now === undefined) return `${what} ${name} removed`;
		return textOf(old) === textOf(now) ? [] : `${what} ${name} changed`;
	});
}

function changed(key: string, before: unknown, after: unknown): string[] {
	return textOf(before) === textOf(after) ? [] : [`${key} changed`];
}

function textOf(value: unknown): string {
	return JSON.stringify(value, (_, v: unknown) => (v instanceof Uint8Array ? [...v] : v)) ?? '';
}
