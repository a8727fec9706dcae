// SPDX-License-Identifier: Apache-2.0
// `npm run bench [-- NAME...]`: runs every bench whose name contains one of the names, and replaces their sections in
// docs/benchmarks.md. A bench that fails leaves its section as it was, and the run exits 1.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { messageOf } from '../src/errors.ts';
import { type Bench, renderSection } from './bench.ts';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const PAGE = fileURLToPath(new URL('../docs/benchmarks.md', import.meta.url));

const INTRODUCTION = `# Benchmarks

Written by \`npm run bench\`; \`npm run bench -- NAME\` renews the sections whose names contain NAME. Ratios hold from
machine to machine better than times: on a shared machine times vary by a third between runs, paired ratios by a few
per cent. A goal is what this project set out to reach.
`;

/** Marks the run of one file in a process of its own. */
const ONLY = '--only=';

const begin = (name: string) => `<!-- bench ${name} -->`;
const end = (name: string) => `<!-- end ${name} -->`;

/** The page with the section of `name` replaced, or added at the end. */
function withSection(page: string, name: string, section: string): string {
	const block = `${begin(name)}\n${section.trim()}\n${end(name)}`;
	const from = page.indexOf(begin(name));
	const to = page.indexOf(end(name));
	if (from < 0 || to < 0) return `${page.trimEnd()}\n\n${block}\n`;
	return page.slice(0, from) + block + page.slice(to + end(name).length);
}

async function load(file: string): Promise<Bench> {
	const module = (await import(new URL(file, import.meta.url).href)) as { bench?: Bench };
	if (module.bench === undefined) throw new Error(`${file} exports no bench`);
	return module.bench;
}

/** Runs one bench in this process and renews its section. */
async function runHere(bench: Bench): Promise<void> {
	process.stderr.write(`--- ${bench.name}\n`);
	const section = renderSection(await bench.run((line) => process.stderr.write(`${line}\n`)));
	process.stdout.write(`${section}\n`);
	const page = existsSync(PAGE) ? readFileSync(PAGE, 'utf8') : INTRODUCTION;
	writeFileSync(PAGE, withSection(page, bench.name, section));
}

/** Each bench has a process of its own: what one leaves behind (heap, threads, CPU affinity) must not slow the next. */
function runApart(file: string): boolean {
	const args = [...process.execArgv, fileURLToPath(import.meta.url), `${ONLY}${file}`];
	return spawnSync(process.execPath, args, { stdio: 'inherit' }).status === 0;
}

async function main(): Promise<number> {
	const only = process.argv.slice(2).find((a) => a.startsWith(ONLY));
	if (only !== undefined) {
		await runHere(await load(only.slice(ONLY.length)));
		return 0;
	}
	const filters = process.argv.slice(2).filter((a) => !a.startsWith('-'));
	const files = readdirSync(HERE).filter((f) => f.endsWith('.bench.ts'));
	let failed = 0;
	for (const file of files.sort()) {
		const { name } = await load(file);
		if (filters.length > 0 && !filters.some((f) => name.includes(f))) continue;
		if (!runApart(file)) failed++;
	}
	return failed === 0 ? 0 : 1;
}

try {
	process.exitCode = await main();
} catch (e) {
	process.stderr.write(`${messageOf(e)}\n`);
	process.exitCode = 1;
}
