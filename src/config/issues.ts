// SPDX-License-Identifier: Apache-2.0
// What is wrong with a configuration, in the user's words: which key, what stands there, what was expected.
// Here the findings of the schema become such sentences; load.ts adds file, line and column.
import type { z } from 'zod';
import { childOf, homesOf, type KeyPath, keysAt, nodesAt, type SchemaNode } from './key-tree.ts';
import { nearest } from './nearest.ts';

/** A finding before it has a place in a file. */
export interface Finding {
	readonly path: KeyPath;
	/** What to point at: the key, its value, or (for a key that is missing) the mapping that lacks it. */
	readonly at: 'key' | 'value';
	/** What is wrong, e.g. `got "fast"`. */
	readonly problem: string;
	/** What would be right, e.g. `one of native, generic, auto`. */
	readonly expected?: string | undefined;
}

/** "datapath.server_ids[2].ids", with odd names quoted. */
export function formatPath(path: KeyPath): string {
	return path
		.map((part, i) => {
			if (typeof part === 'number') return `[${part}]`;
			const plain = /^[\w-]+$/.test(part) ? part : JSON.stringify(part);
			return i === 0 ? plain : `.${plain}`;
		})
		.join('');
}

/** A value as a person would point it out; long text is cut, lists and mappings only named. */
export function show(value: unknown): string {
	if (value === undefined) return 'nothing';
	if (value === null) return 'no value';
	if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list';
	if (typeof value === 'object') return 'a mapping';
	const shown = typeof value === 'string' ? JSON.stringify(value) : String(value);
	return shown.length > 60 ? `${shown.slice(0, 57)}...` : shown;
}

/** "one of a, b, c", with the nearest to `word` named. */
export function oneOf(names: readonly string[], word?: unknown): string {
	const list = names.length === 1 ? `${names[0]}` : `one of ${names.join(', ')}`;
	const near = typeof word === 'string' ? nearest(word, names) : undefined;
	return near === undefined || names.length === 1 ? list : `${list} (did you mean ${near}?)`;
}

type SchemaIssue = z.core.$ZodIssue;

/** Turns the schema's findings into ours. `raw` is the document as it was written. */
export function findingsOf(issues: readonly SchemaIssue[], raw: unknown, tree: SchemaNode, base: KeyPath = []): Finding[] {
	return issues.flatMap((issue) => {
		const path = [...base, ...issue.path.filter((part) => typeof part !== 'symbol')];
		const value = path.reduce<unknown>(childOf, raw);
		if (issue.code === 'unrecognized_keys') return issue.keys.map((key) => unknownKey(path, key, raw, tree));
		if (issue.code === 'invalid_union' && issue.errors.length > 0) {
			if (typeof value === 'object' && value !== null) return findingsOf(deepestBranch(issue.errors), raw, tree, path);
			const each = issue.errors.flatMap((branch) => findingsOf(branch, raw, tree, path)).map((finding) => finding.expected);
			return [
				{
					path,
					at: 'value',
					problem: value === undefined ? 'is missing' : `got ${show(value)}`,
					expected: [...new Set(each)].join(', or '),
				},
			];
		}
		if (value === undefined) return [{ path, at: 'value', problem: 'is missing', expected: expectation(issue, path, raw, tree) }];
		return [{ path, at: 'value', problem: `got ${show(value)}`, expected: expectation(issue, path, raw, tree, value) }];
	});
}

/** Of a union's branches, the one that a list or mapping was meant for: it got furthest. */
function deepestBranch(branches: readonly (readonly SchemaIssue[])[]): readonly SchemaIssue[] {
	const depth = (issues: readonly SchemaIssue[]) => Math.max(...issues.map((issue) => issue.path.length));
	return [...branches].sort((a, b) => depth(b) - depth(a))[0] ?? [];
}

function unknownKey(parent: KeyPath, key: string, raw: unknown, tree: SchemaNode): Finding {
	const known = keysAt(tree, parent, raw);
	const near = nearest(key, known);
	const homes = homesOf(tree, key).map((home) => (home === '' ? 'the top level' : home));
	let expected = `one of ${known.join(', ')}`;
	if (near !== undefined) expected = `did you mean ${near}?`;
	else if (homes.length > 0) expected = `it belongs under ${homes.join(' or ')}`;
	return { path: [...parent, key], at: 'key', problem: 'is not a key of the configuration', expected };
}

const TYPE_NAMES: Readonly<Record<string, string>> = {
	string: 'text (quote it if it looks like a number)',
	number: 'a number',
	int: 'a whole number',
	boolean: 'true or false',
	array: 'a list',
	object: 'a mapping of keys to values',
	record: 'a mapping of names to values',
};

function expectation(issue: SchemaIssue, path: KeyPath, raw: unknown, tree: SchemaNode, value?: unknown): string | undefined {
	if (issue.code === 'invalid_value') return oneOf(issue.values.map(String), value);
	if (issue.code === 'invalid_union')
		return oneOf('options' in issue && Array.isArray(issue.options) ? issue.options.map(String) : [], value);
	if (issue.code === 'custom') {
		const expected: unknown = issue.params?.expected;
		return typeof expected === 'string' ? expected : issue.message;
	}
	const [node] = nodesAt(tree, path, raw);
	if (node?.type === 'integer') return `a whole number from ${node.minimum} to ${node.maximum}`;
	if (issue.code === 'too_small' && issue.origin === 'array') return 'a list with at least one entry';
	if (issue.code !== 'invalid_type') return issue.message;
	// Text scalars carry their own sentence as the message of a wrong type.
	if (issue.expected === 'string' && !issue.message.startsWith('Invalid input')) return issue.message;
	if (issue.expected === 'object' && node?.oneOf) return 'a mapping of keys to values';
	return TYPE_NAMES[issue.expected] ?? issue.expected;
}
