// SPDX-License-Identifier: Apache-2.0
// The table of all keys for docs/configuration.md, from the JSON Schema.
import type { SchemaNode } from '../src/config/key-tree.ts';

interface Row {
	readonly key: string;
	readonly value: string;
	readonly initial: string;
	readonly meaning: string;
}

/** Markdown: one table a section. */
export function configReference(root: SchemaNode): string {
	return Object.entries(root.properties ?? {})
		.map(([name, node]) => section(name, node, (root.required ?? []).includes(name)))
		.join('\n');
}

function section(name: string, node: SchemaNode, required: boolean): string {
	const lines = rows(name, node, required).map((row) => `| \`${row.key}\` | ${row.value} | ${row.initial} | ${row.meaning} |`);
	return [`### ${name}`, '', '| key | value | default | meaning |', '|---|---|---|---|', ...lines, ''].join('\n');
}

function rows(key: string, node: SchemaNode, required: boolean): Row[] {
	const inner = [
		...children(key, node),
		...(node.additionalProperties ? children(`${key}.NAME`, node.additionalProperties) : []),
		...(node.items ? children(`${key}[]`, node.items) : []),
	];
	const structural = inner.length > 0 && node.type === 'object' && node.description === undefined;
	const own = {
		key,
		value: valueText(node),
		initial: initialText(node, required),
		meaning: inCell(node.description ?? node.items?.description ?? ''),
	};
	return structural ? inner : [own, ...inner];
}

function children(key: string, node: SchemaNode): Row[] {
	if (node.oneOf) return node.oneOf.flatMap((kind) => kindRows(key, kind));
	return Object.entries(node.properties ?? {}).flatMap(([name, child]) =>
		rows(`${key}.${name}`, child, (node.required ?? []).includes(name)),
	);
}

/** The keys of one kind of source, under that kind's name. */
function kindRows(key: string, node: SchemaNode): Row[] {
	const kind = String(node.properties?.kind?.const);
	return children(`${key}`, node).map((row) => ({ ...row, meaning: `(${kind}) ${row.meaning}`.trim() }));
}

function valueText(node: SchemaNode): string {
	if (node.anyOf) return node.anyOf.map(valueText).join(' or ');
	if (node.const !== undefined) return `\`${String(node.const)}\``;
	if (node.enum) return node.enum.map((name) => `\`${name}\``).join(', ');
	if (node.type === 'integer') return `${node.minimum} to ${node.maximum}`;
	if (node.type === 'array') return node.items && !node.items.properties ? `list of ${valueText(node.items)}` : 'list';
	const names: Readonly<Record<string, string>> = { boolean: '`true`, `false`', object: 'mapping', null: '`null`' };
	return node.title ?? names[node.type ?? ''] ?? 'text';
}

function initialText(node: SchemaNode, required: boolean): string {
	if (required) return 'required';
	if (node.default === undefined || node.default === null || node.type === 'object') return '-';
	return `\`${inCell(typeof node.default === 'string' ? node.default : JSON.stringify(node.default))}\``;
}

function inCell(text: string): string {
	return text.replaceAll('|', '\\|');
}
