// SPDX-License-Identifier: Apache-2.0
// What relates the keys of one source to each other: half a client certificate, a password without a user.
import { type Finding, formatPath } from './issues.ts';
import { childOf, type KeyPath } from './key-tree.ts';

/** Pairs of keys of a source that are useless alone. */
const TOGETHER: readonly (readonly [string, string, readonly string[]])[] = [
	['username', 'password_file', []],
	['cert', 'key', ['tls']],
];

export function sourceFindings(raw: unknown): Finding[] {
	const sources = childOf(raw, 'sources');
	if (typeof sources !== 'object' || sources === null || Array.isArray(sources)) return [];
	return Object.keys(sources).flatMap((name) => {
		const path = ['sources', name];
		const source = childOf(sources, name);
		const pairs = TOGETHER.flatMap(([a, b, under]) => halfPair(source, [...path, ...under], under, [a, b]));
		return [...pairs, ...uselessTls(source, path), ...mixedEndpoints(source, path)];
	});
}

function halfPair(source: unknown, path: KeyPath, under: readonly string[], pair: readonly [string, string]): Finding[] {
	const holder = under.reduce<unknown>(childOf, source);
	const [given, ...rest] = pair.filter((key) => childOf(holder, key) !== undefined);
	if (given === undefined || rest.length > 0) return [];
	const missing = pair[0] === given ? pair[1] : pair[0];
	return [
		{ path: [...path, given], at: 'key', problem: `stands without ${missing}`, expected: `${formatPath([...path, missing])} as well` },
	];
}

function uselessTls(source: unknown, path: KeyPath): Finding[] {
	const endpoints = childOf(source, 'endpoints');
	const addresses = Array.isArray(endpoints) ? endpoints : [childOf(source, 'address') ?? 'http://127.0.0.1'];
	if (childOf(source, 'tls') === undefined || addresses.some((a) => typeof a !== 'string' || a.toLowerCase().startsWith('https:')))
		return [];
	return [{ path: [...path, 'tls'], at: 'key', problem: 'is set, but the address is not https', expected: 'an https address, or no tls' }];
}

/** One client has one set of credentials: a plain endpoint among encrypted ones would send the password in clear. */
function mixedEndpoints(source: unknown, path: KeyPath): Finding[] {
	const endpoints = childOf(source, 'endpoints');
	if (!Array.isArray(endpoints)) return [];
	const secure = endpoints.map((e) => String(e).toLowerCase().startsWith('https:'));
	if (!secure.includes(true) || !secure.includes(false)) return [];
	return [
		{ path: [...path, 'endpoints'], at: 'value', problem: 'mixes http and https', expected: 'https for all members, or http for all' },
	];
}
