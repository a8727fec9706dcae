// SPDX-License-Identifier: Apache-2.0
// From a file to a Config, or to everything that is wrong with it at once, each with its place.
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { isSystemError, messageOf, XdpilotError } from '../errors.ts';
import { ConfigError, type ConfigIssue } from './config-error.ts';
import { crossFindings } from './cross-checks.ts';
import { type ParsedDocument, type Position, parseText } from './document.ts';
import { type Finding, findingsOf, formatPath } from './issues.ts';
import { configJsonSchema } from './key-tree.ts';
import { type Config, configSchema, type SourceConfig } from './schema.ts';

/** Largest configuration that is read. */
export const MAX_CONFIG_BYTES = 1024 * 1024;

/** Reads a configuration file. @throws ConfigError (E_CONFIG) with all that is wrong with it */
export function loadConfig(file: string): Config {
	return parseConfig(readText(file), file);
}

/** The same for a text; `file` names it in messages, and relative paths in it start at its folder. */
export function parseConfig(text: string, file: string): Config {
	const document = parseText(text);
	const whole = document.value ?? (document.syntax.length > 0 ? undefined : null);
	if (whole === undefined) throw new ConfigError(file, syntaxIssues(file, document));
	if (typeof whole !== 'object' || whole === null || Array.isArray(whole)) {
		throw new ConfigError(file, [
			wholeFile(file, whole === null ? 'is empty' : 'is not a mapping of keys to values', 'at least the key sources'),
		]);
	}
	const parsed = configSchema.safeParse(whole);
	const shape = parsed.success ? [] : findingsOf(parsed.error.issues, whole, configJsonSchema());
	const issues = [...syntaxIssues(file, document), ...placed(file, document, [...shape, ...crossFindings(whole)])];
	if (issues.length > 0 || !parsed.success) throw new ConfigError(file, inOrder(issues));
	return withAbsolutePaths(parsed.data, path.dirname(path.resolve(file)));
}

function readText(file: string): string {
	let fd: number | undefined;
	try {
		// Non-blocking: opening a FIFO that nobody writes to would wait for ever.
		fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
		const stat = fstatSync(fd);
		if (!stat.isFile()) throw new ConfigError(file, [wholeFile(file, 'is not a regular file', 'a YAML or JSON file')]);
		if (stat.size > MAX_CONFIG_BYTES) {
			throw new ConfigError(file, [wholeFile(file, `has ${stat.size} bytes`, `at most ${MAX_CONFIG_BYTES}`)]);
		}
		return new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(fd));
	} catch (e) {
		if (e instanceof ConfigError) throw e;
		if (e instanceof TypeError) throw new ConfigError(file, [wholeFile(file, 'is not UTF-8 text', 'a YAML or JSON file')]);
		throw new XdpilotError('E_CONFIG', `can't read ${file}: ${isSystemError(e) ? reasonOf(e) : messageOf(e)}`, {
			cause: e,
			unaffected: 'nothing was changed',
		});
	} finally {
		if (fd !== undefined) closeSync(fd);
	}
}

function reasonOf(e: NodeJS.ErrnoException): string {
	const known: Readonly<Record<string, string>> = {
		ENOENT: 'there is no such file',
		EACCES: 'permission denied',
		EISDIR: 'it is a folder',
	};
	return known[e.code ?? ''] ?? e.message;
}

function wholeFile(file: string, problem: string, expected: string): ConfigIssue {
	return { file, line: null, column: null, key: '', problem, expected };
}

function syntaxIssues(file: string, document: ParsedDocument): ConfigIssue[] {
	return document.syntax.map(({ line, column, problem }) => ({ file, line, column, key: '', problem, expected: null }));
}

function placed(file: string, document: ParsedDocument, findings: readonly Finding[]): ConfigIssue[] {
	return findings.map((finding) => {
		const { line, column }: Position = document.locate(finding);
		const { problem, expected = null } = finding;
		return { file, line, column, key: formatPath(finding.path), problem, expected };
	});
}

function inOrder(issues: readonly ConfigIssue[]): ConfigIssue[] {
	return [...issues].sort((a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0));
}

function withAbsolutePaths(config: Config, folder: string): Config {
	const absolute = (p: string) => path.resolve(folder, p);
	const sources = new Map([...config.sources].map(([name, source]) => [name, sourceWithAbsolutePaths(source, absolute)] as const));
	const seed = config.datapath.hash_seed_file;
	return { ...config, sources, datapath: { ...config.datapath, hash_seed_file: seed === null ? null : absolute(seed) } };
}

function sourceWithAbsolutePaths(source: SourceConfig, absolute: (p: string) => string): SourceConfig {
	if (source.kind === 'file') return { ...source, path: absolute(source.path) };
	const tls = source.tls && {
		...source.tls,
		...(source.tls.ca === undefined ? {} : { ca: absolute(source.tls.ca) }),
		...(source.tls.cert === undefined ? {} : { cert: absolute(source.tls.cert) }),
		...(source.tls.key === undefined ? {} : { key: absolute(source.tls.key) }),
	};
	const withTls = tls === undefined ? source : { ...source, tls };
	if (withTls.kind === 'consul') {
		return withTls.token_file === undefined ? withTls : { ...withTls, token_file: absolute(withTls.token_file) };
	}
	return withTls.password_file === undefined ? withTls : { ...withTls, password_file: absolute(withTls.password_file) };
}
