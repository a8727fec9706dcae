// SPDX-License-Identifier: Apache-2.0
// What relates one key to another. It reads the document as written and skips what the schema refuses, so that
// both kinds of findings are reported together, each once.
import { type Address, parsePrefix, prefixContains } from '../model/address.ts';
import { type Vip, vipKey } from '../model/vip.ts';
import { type Finding, formatPath, oneOf, show } from './issues.ts';
import { childOf, type KeyPath } from './key-tree.ts';
import { datapathSchema, poolSchema, serverIdsSchema, vipSchema } from './schema.ts';
import { sourceFindings } from './source-checks.ts';
import { NAME, NAME_EXPECTED, parseDuration } from './values.ts';
import { flagFindings } from './vip-flags.ts';

/** Names under `sources` or `pools`, however their contents look. */
function namesUnder(raw: unknown, key: 'sources' | 'pools'): string[] {
	const value = childOf(raw, key);
	return typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.keys(value) : [];
}

function listAt(raw: unknown, ...path: string[]): readonly unknown[] {
	const value = path.reduce<unknown>(childOf, raw);
	return Array.isArray(value) ? value : [];
}

/** All findings, in the order of the document's sections. */
export function crossFindings(raw: unknown): Finding[] {
	return [
		...names(raw, 'sources'),
		...names(raw, 'pools'),
		...limits(raw),
		...serverIds(raw),
		...sourceRoutes(raw),
		...sourceFindings(raw),
		...allowList(raw),
		...pools(raw),
		...vips(raw),
	];
}

function names(raw: unknown, key: 'sources' | 'pools'): Finding[] {
	return namesUnder(raw, key)
		.filter((name) => !NAME.test(name))
		.map((name) => ({ path: [key, name], at: 'key', problem: `got the name ${show(name)}`, expected: NAME_EXPECTED }));
}

function limits(raw: unknown): Finding[] {
	const parsed = datapathSchema.safeParse(childOf(raw, 'datapath') ?? {});
	if (!parsed.success) return [];
	const { ring_size: size, max_backends_per_pool: most, max_pools, max_vips, interfaces } = parsed.data;
	const findings: Finding[] = [];
	const tooMany = (key: 'pools' | 'vips', count: number, limit: number) => {
		if (count > limit)
			findings.push({ path: [key], at: 'key', problem: `has ${count} entries`, expected: `at most datapath.max_${key} = ${limit}` });
	};
	if (size <= most) {
		const problem = `got ${size}, not above max_backends_per_pool = ${most}: some backends could not get a slot`;
		findings.push({
			path: ['datapath', 'ring_size'],
			at: 'value',
			problem,
			expected: 'a prime above max_backends_per_pool, best 100 times as large',
		});
	}
	tooMany('pools', namesUnder(raw, 'pools').length, max_pools);
	tooMany('vips', listAt(raw, 'vips').length, max_vips);
	for (const [i, name] of interfaces.entries()) {
		if (interfaces.indexOf(name) === i) continue;
		findings.push({
			path: ['datapath', 'interface', i],
			at: 'value',
			problem: `names ${name} a second time`,
			expected: 'each interface once',
		});
	}
	return findings;
}

function serverIds(raw: unknown): Finding[] {
	const owners = new Map<number, string>();
	return listAt(raw, 'datapath', 'server_ids').flatMap((entry, i) => {
		const parsed = serverIdsSchema.safeParse(entry);
		if (!parsed.success) return [];
		const path = ['datapath', 'server_ids', i];
		const findings = unusableBackend(raw, parsed.data.address, [...path, 'address']);
		for (const [j, id] of parsed.data.ids.entries()) {
			const owner = owners.get(id);
			if (owner === undefined) owners.set(id, parsed.data.address);
			else
				findings.push({
					path: [...path, 'ids', j],
					at: 'value',
					problem: `gives the id ${id} to ${owner} already`,
					expected: 'each id once',
				});
		}
		return findings;
	});
}

function sourceRoutes(raw: unknown): Finding[] {
	const seen = new Set<string>();
	return listAt(raw, 'datapath', 'source_routes').flatMap((entry, i) => {
		const path = ['datapath', 'source_routes', i];
		const backend = parsePrefix(String(childOf(entry, 'backend')));
		const findings = backend === undefined ? [] : unusableBackend(raw, backend.address, [...path, 'backend']);
		for (const [j, text] of listAt(entry, 'prefixes').entries()) {
			const prefix = typeof text === 'string' ? parsePrefix(text) : undefined;
			const key = prefix && `${prefix.address}/${prefix.length}`;
			if (key === undefined) continue;
			if (seen.has(key))
				findings.push({
					path: [...path, 'prefixes', j],
					at: 'value',
					problem: `routes ${key} a second time`,
					expected: 'each prefix once',
				});
			seen.add(key);
		}
		return findings;
	});
}

/** A backend written in the configuration itself obeys allowed_backends like one from a registry. */
function unusableBackend(raw: unknown, address: Address, path: KeyPath): Finding[] {
	const special = specialRange(address);
	if (special !== undefined) return [{ path, at: 'value', problem: `got ${address}, ${special}`, expected: 'the address of a server' }];
	const allowed = listAt(raw, 'allowed_backends').map((text) => parsePrefix(String(text)));
	if (allowed.length === 0 || allowed.some((prefix) => prefix === undefined || prefixContains(prefix, address))) return [];
	return [
		{ path, at: 'value', problem: `got ${address}, which is outside allowed_backends`, expected: 'an address in one of its prefixes' },
	];
}

function allowList(raw: unknown): Finding[] {
	const allowed = childOf(raw, 'allowed_backends');
	const registries = namesUnder(raw, 'sources').filter((name) =>
		['consul', 'etcd'].includes(String(childOf(childOf(childOf(raw, 'sources'), name), 'kind'))),
	);
	if (allowed !== undefined || registries.length === 0) return [];
	const expected = `the prefixes that backends of ${registries.join(' and ')} may lie in, such as [10.0.0.0/8], or "any"`;
	return [
		{ path: ['allowed_backends'], at: 'value', problem: 'is missing: a registry must not decide alone where packets are sent', expected },
	];
}

function pools(raw: unknown): Finding[] {
	const sources = namesUnder(raw, 'sources');
	return namesUnder(raw, 'pools').flatMap((name) => {
		const path = ['pools', name];
		const pool = childOf(childOf(raw, 'pools'), name);
		const findings: Finding[] = [];
		const source = childOf(childOf(pool, 'from'), 'source');
		if (typeof source === 'string' && !sources.includes(source)) {
			const expected = sources.length === 0 ? 'a source; none is configured' : oneOf(sources, source);
			findings.push({
				path: [...path, 'from', 'source'],
				at: 'value',
				problem: `names the source ${show(source)}, which is not configured`,
				expected,
			});
		}
		const kind = childOf(childOf(childOf(raw, 'sources'), String(source)), 'kind');
		for (const key of ['tags', 'datacenter']) {
			if ((kind !== 'etcd' && kind !== 'file') || childOf(childOf(pool, 'from'), key) === undefined) continue;
			findings.push({
				path: [...path, 'from', key],
				at: 'key',
				problem: `means nothing to a source of kind ${kind}`,
				expected: 'to be left out',
			});
		}
		return [...findings, ...debounce(pool, path)];
	});
}

function debounce(pool: unknown, path: KeyPath): Finding[] {
	const written = childOf(pool, 'debounce');
	const parsed = poolSchema.shape.debounce.safeParse(written ?? {});
	if (!parsed.success || parsed.data.max >= parsed.data.quiet) return [];
	const max = childOf(written, 'max');
	const given = typeof max === 'string' && parseDuration(max) !== undefined ? max : '500ms (the default)';
	return [
		{
			path: [...path, 'debounce'],
			at: 'value',
			problem: `waits for ${childOf(written, 'quiet')} of quiet, but at most ${given}`,
			expected: 'max to be at least quiet',
		},
	];
}

function vips(raw: unknown): Finding[] {
	const poolNames = namesUnder(raw, 'pools');
	const first = new Map<string, KeyPath>();
	return listAt(raw, 'vips').flatMap((entry, i) => {
		const path = ['vips', i];
		const findings = [...flagFindings(entry, path)];
		const pool = childOf(entry, 'pool');
		if (typeof pool === 'string' && !poolNames.includes(pool)) {
			const expected = poolNames.length === 0 ? 'a pool; none is configured' : oneOf(poolNames, pool);
			findings.push({ path: [...path, 'pool'], at: 'value', problem: `names the pool ${show(pool)}, which is not configured`, expected });
		}
		const parsed = vipSchema.safeParse(entry);
		return parsed.success ? [...findings, ...oneVip(parsed.data, path, first)] : findings;
	});
}

function oneVip(vip: Vip, path: KeyPath, first: Map<string, KeyPath>): Finding[] {
	const key = vipKey(vip);
	const earlier = first.get(key);
	if (earlier !== undefined)
		return [{ path, at: 'value', problem: `is ${key} again, as ${formatPath(earlier)}`, expected: 'each vip once' }];
	first.set(key, path);
	const special = specialRange(vip.prefix.address);
	if (special === undefined) return [];
	return [
		{
			path: [...path, 'address'],
			at: 'value',
			problem: `got ${vip.prefix.address}, ${special}`,
			expected: 'an address that clients can connect to',
		},
	];
}

const SPECIAL: readonly (readonly [string, string])[] = [
	['0.0.0.0/8', 'which means "no address"'],
	['127.0.0.0/8', 'a loopback address'],
	['169.254.0.0/16', 'a link-local address'],
	['224.0.0.0/4', 'a multicast address'],
	['240.0.0.0/4', 'which is reserved'],
	['::/128', 'which means "no address"'],
	['::1/128', 'the loopback address'],
	['fe80::/10', 'a link-local address'],
	['ff00::/8', 'a multicast address'],
];

/** Why no packet may be sent from or to an address, whatever the registry; what depends on the host is the guard's. */
function specialRange(address: Address): string | undefined {
	return SPECIAL.find(([text]) => {
		const prefix = parsePrefix(text);
		return prefix !== undefined && prefixContains(prefix, address);
	})?.[1];
}
