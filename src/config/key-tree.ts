// SPDX-License-Identifier: Apache-2.0
// The configuration's keys as a tree that can be asked: which keys exist here, what is expected there, where
// does a key of this name belong. It is the JSON Schema, read; so messages, editors and parser can't disagree.
import { z } from 'zod';
import { configSchema } from './schema.ts';

export type KeyPath = readonly (string | number)[];

/** The part of JSON Schema that z.toJSONSchema makes of our schema. */
export interface SchemaNode {
	readonly type?: string;
	readonly title?: string;
	readonly description?: string;
	readonly default?: unknown;
	readonly properties?: Readonly<Record<string, SchemaNode>>;
	readonly required?: readonly string[];
	/** A schema where names are free (pools, sources); false where keys are fixed. */
	readonly additionalProperties?: SchemaNode | false;
	readonly items?: SchemaNode;
	readonly anyOf?: readonly SchemaNode[];
	readonly oneOf?: readonly SchemaNode[];
	readonly const?: unknown;
	readonly enum?: readonly string[];
	readonly minimum?: number;
	readonly maximum?: number;
}

/** The JSON Schema of what a user writes (defaults may be left out). */
export function configJsonSchema(): SchemaNode {
	return z.toJSONSchema(configSchema, { io: 'input', unrepresentable: 'any' }) as SchemaNode;
}

/** The nodes that describe the value at `path`: several where the kind of a source is not known. */
export function nodesAt(root: SchemaNode, path: KeyPath, raw: unknown): SchemaNode[] {
	let nodes = branches(root, raw);
	let value = raw;
	for (const part of path) {
		value = childOf(value, part);
		const inner = value;
		nodes = nodes.flatMap((node) => step(node, part)).flatMap((node) => branches(node, inner));
	}
	return nodes;
}

/** The names that a mapping at `path` may have; empty where they are free. */
export function keysAt(root: SchemaNode, path: KeyPath, raw: unknown): string[] {
	return [...new Set(nodesAt(root, path, raw).flatMap((node) => Object.keys(node.properties ?? {})))];
}

/** Dotted paths of the mappings that have a key of this name, `*` standing for free names and list entries. */
export function homesOf(root: SchemaNode, key: string): string[] {
	const homes = new Set<string>();
	const walk = (node: SchemaNode, path: string): void => {
		for (const [name, child] of Object.entries(node.properties ?? {})) {
			if (name === key) homes.add(path);
			walk(child, path === '' ? name : `${path}.${name}`);
		}
		if (node.additionalProperties) walk(node.additionalProperties, `${path}.*`);
		if (node.items) walk(node.items, `${path}.*`);
		for (const branch of [...(node.anyOf ?? []), ...(node.oneOf ?? [])]) walk(branch, path);
	};
	walk(root, '');
	return [...homes];
}

/** The member of a mapping or list, own keys only. */
export function childOf(value: unknown, part: string | number): unknown {
	return typeof value === 'object' && value !== null && Object.hasOwn(value, part) ? Reflect.get(value, part) : undefined;
}

function step(node: SchemaNode, part: string | number): SchemaNode[] {
	if (typeof part === 'number') return node.items ? [node.items] : [];
	const properties = node.properties ?? {};
	const fixed = Object.hasOwn(properties, part) ? properties[part] : undefined;
	if (fixed) return [fixed];
	return node.additionalProperties ? [node.additionalProperties] : [];
}

/** Alternatives, narrowed by a constant key (`kind`) where the value names one of them. */
function branches(node: SchemaNode, raw: unknown): SchemaNode[] {
	const all = [...(node.anyOf ?? []), ...(node.oneOf ?? [])];
	if (all.length === 0) return [node];
	const named = all.filter((branch) =>
		Object.entries(branch.properties ?? {}).some(([key, child]) => child.const !== undefined && child.const === childOf(raw, key)),
	);
	return named.length > 0 ? named : all;
}
