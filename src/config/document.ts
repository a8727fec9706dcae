// SPDX-License-Identifier: Apache-2.0
// A YAML or JSON document that remembers where everything stands. Hostile text is harmless: size, alias
// expansion and nesting are bounded, tags are refused, and `__proto__` is an ordinary (unknown) key.
import { type Document, isAlias, isMap, isNode, isScalar, isSeq, LineCounter, type Node, parseDocument, type YAMLError } from 'yaml';
import type { Finding } from './issues.ts';
import type { KeyPath } from './key-tree.ts';

/** Aliases that a document may expand to; a configuration needs a handful. */
const MAX_ALIASES = 1000;
const TOO_DEEP = 'is nested too deeply';

export interface Position {
	/** From 1. */
	readonly line: number;
	readonly column: number;
}

/** What is wrong with the text itself. */
export interface SyntaxProblem extends Position {
	readonly problem: string;
}

export interface ParsedDocument {
	/** Plain objects and lists; undefined when the text can't be read at all. */
	readonly value: unknown;
	readonly syntax: readonly SyntaxProblem[];
	locate(finding: Pick<Finding, 'path' | 'at'>): Position;
}

export function parseText(text: string): ParsedDocument {
	const lines = new LineCounter();
	try {
		const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, schema: 'core', strict: true });
		const syntax = [...document.errors, ...document.warnings].map((e) => ({ ...position(lines, e.pos[0]), problem: inOurWords(e) }));
		// A key given twice leaves a document that can be read on; anything else does not.
		const readable = document.errors.every((e) => e.code === 'DUPLICATE_KEY');
		const value: unknown = readable ? document.toJS({ maxAliasCount: MAX_ALIASES }) : undefined;
		return { value, syntax: firstAtEachPlace(syntax), locate: (finding) => locate(document, lines, finding) };
	} catch (e) {
		const start = { line: 1, column: 1 };
		return { value: undefined, syntax: [{ ...start, problem: refusal(e) }], locate: () => start };
	}
}

/** The parser's sentence, except where it speaks to a programmer. */
function inOurWords({ code, message }: YAMLError): string {
	if (code === 'DUPLICATE_KEY') return 'this key is given a second time';
	if (code === 'MULTIPLE_DOCS') return 'a second document begins here; one file holds one configuration';
	return message === 'Maximum call stack size exceeded' ? TOO_DEEP : message;
}

/** One slip makes the parser report each enclosing bracket as well; the first report says it. */
function firstAtEachPlace(problems: readonly SyntaxProblem[]): SyntaxProblem[] {
	return problems.filter((a, i) => problems.findIndex((b) => a.line === b.line && a.column === b.column) === i);
}

function refusal(e: unknown): string {
	if (e instanceof RangeError) return TOO_DEEP;
	if (e instanceof ReferenceError) return `uses aliases (*name) more than ${MAX_ALIASES} times over`;
	throw e;
}

function position(lines: LineCounter, offset: number): Position {
	const { line, col } = lines.linePos(offset);
	return { line: Math.max(1, line), column: Math.max(1, col) };
}

/** The place of a finding; of a key that is missing, the place of the nearest enclosing key. */
function locate(document: Document.Parsed, lines: LineCounter, { path, at }: Pick<Finding, 'path' | 'at'>): Position {
	let value: unknown = document.contents;
	let keyOffset = 0;
	let valueOffset = offsetOf(value) ?? 0;
	for (const [i, part] of path.entries()) {
		const child = descend(document, value, part);
		if (child === undefined) return position(lines, i === 0 ? 0 : keyOffset);
		value = child.value;
		keyOffset = offsetOf(child.key) ?? offsetOf(value) ?? keyOffset;
		valueOffset = offsetOf(value) ?? keyOffset;
	}
	return position(lines, at === 'key' ? keyOffset : valueOffset);
}

function descend(document: Document.Parsed, parent: unknown, part: KeyPath[number]): { key: unknown; value: unknown } | undefined {
	const node = isAlias(parent) ? parent.resolve(document) : parent;
	if (isMap(node)) {
		const pair = node.items.find(({ key }) => (isScalar(key) ? String(key.value) : String(key)) === String(part));
		return pair && { key: pair.key, value: pair.value };
	}
	if (isSeq(node) && typeof part === 'number' && part < node.items.length) return { key: undefined, value: node.items[part] };
	return undefined;
}

function offsetOf(node: unknown): number | undefined {
	return isNode(node) ? (node as Node).range?.[0] : undefined;
}
