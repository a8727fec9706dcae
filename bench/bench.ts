// SPDX-License-Identifier: Apache-2.0
// What a benchmark is, and how its figures become a section of docs/benchmarks.md. A bench file answers one question,
// exports `bench`, and runs alone as well: `tsx bench/<name>.bench.ts`.
import { cpus, release } from 'node:os';
import { fileURLToPath } from 'node:url';

export interface BenchRow {
	/** What was measured, e.g. `flow hit, one flow, IPv4`. */
	readonly what: string;
	/** The goal, e.g. `<= 2.6`; absent where there is none. */
	readonly goal?: string;
	readonly met?: boolean;
	readonly unit: string;
	/** Samples behind median and p99. */
	readonly n: number;
	readonly median: number;
	readonly p99: number;
	/** Digits behind the point; 2 unless given. */
	readonly digits?: number;
	/** Further columns, by their titles in the section's `extra`. */
	readonly extra?: Readonly<Record<string, string>>;
}

export interface BenchSection {
	readonly title: string;
	/** Markdown: the method, and what must be known to read the figures. */
	readonly method: string;
	/** Titles of further columns, in order. */
	readonly extra?: readonly string[];
	readonly rows: readonly BenchRow[];
	/** Markdown below the table. */
	readonly remarks?: string;
}

export interface Bench {
	/** One word; the name filter and the marker in docs/benchmarks.md. */
	readonly name: string;
	/** Rejects when the figures would not mean what the rows say. */
	run(progress: (line: string) => void): Promise<BenchSection>;
}

export interface Stats {
	readonly n: number;
	readonly median: number;
	readonly p99: number;
}

/** Median and 99th percentile (nearest rank). @throws RangeError without samples */
export function stats(samples: readonly number[]): Stats {
	if (samples.length === 0) throw new RangeError('no samples');
	const sorted = [...samples].sort((a, b) => a - b);
	const at = (q: number) => sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(q * sorted.length) - 1))] ?? 0;
	return { n: sorted.length, median: at(0.5), p99: at(0.99) };
}

/** Machine, kernel and Node, in a line. */
export function machineLine(): string {
	const [first] = cpus();
	return `${cpus().length} x ${first?.model.trim() ?? process.arch}, Linux ${release()}, Node ${process.versions.node}`;
}

/** A section as Markdown, with the machine it was measured on. */
export function renderSection(section: BenchSection): string {
	const extra = section.extra ?? [];
	const head = ['what', 'goal', 'median', 'p99', 'unit', 'n', ...extra];
	const lines = section.rows.map((row) => {
		const digits = row.digits ?? 2;
		const goal = row.goal === undefined ? '' : `${row.goal}${row.met === undefined ? '' : row.met ? ' (met)' : ' (**missed**)'}`;
		const figures = [row.median.toFixed(digits), row.p99.toFixed(digits), row.unit, String(row.n)];
		return [row.what, goal, ...figures, ...extra.map((title) => row.extra?.[title] ?? '')];
	});
	const table = [head, head.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
	const remarks = section.remarks === undefined ? '' : `\n${section.remarks.trim()}\n`;
	return `## ${section.title}\n\n${section.method.trim()}\n\nMeasured on ${machineLine()}.\n\n${table}\n${remarks}`;
}

/** Runs the bench and prints its section, if `meta` is the program that Node was started with. */
export async function runAlone(bench: Bench, meta: ImportMeta): Promise<void> {
	if (process.argv[1] !== fileURLToPath(meta.url)) return;
	process.stdout.write(renderSection(await bench.run((line) => process.stderr.write(`${line}\n`))));
}
