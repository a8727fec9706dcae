// SPDX-License-Identifier: Apache-2.0
// `npm test`: set-up, lint, types, generated files, then every test; or only the suites named on the command line
// (unit packet integration e2e sanitize), without the checks before them. A skipped test says why; with CI=true it is a failure,
// unless its reason names ../shared (material that is not part of the project).
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isRoot, ROOT, rootPrefix, setup } from './setup.mjs';

const SUITES = ['unit', 'packet', 'integration', 'e2e'];
const PRIVILEGED = ['packet', 'integration', 'e2e'];
const CI = process.env.CI === 'true';

const named = process.argv.slice(2).filter((a) => !a.startsWith('-'));
const unknown = named.filter((n) => ![...SUITES, 'sanitize'].includes(n));
if (unknown.length > 0) {
	process.stderr.write(`run-tests: no suite ${unknown.join(', ')}; there are ${SUITES.join(', ')} and sanitize\n`);
	process.exit(64);
}

function must(title, command, args, options = {}) {
	process.stdout.write(`--- ${title}\n`);
	const done = spawnSync(command, args, { cwd: ROOT, stdio: 'inherit', ...options });
	if (done.status === 0) return;
	process.stderr.write(`run-tests: ${title} failed\n`);
	process.exit(1);
}

function testFiles(dir) {
	if (!existsSync(dir)) return [];
	return readdirSync(dir, { withFileTypes: true })
		.flatMap((e) => (e.isDirectory() ? testFiles(join(dir, e.name)) : e.name.endsWith('.test.ts') ? [join(dir, e.name)] : []))
		.sort();
}

/** Runs suites in one node:test run; returns whether it passed, and what was skipped. */
function runSuites(suites, prefix) {
	const files = suites.flatMap((s) => testFiles(join(ROOT, 'test', s)));
	if (files.length === 0) return { ok: true, skipped: [] };
	process.stdout.write(`--- tests: ${suites.join(', ')}\n`);
	const dir = mkdtempSync(join(tmpdir(), 'xdpilot-tests-'));
	const skips = join(dir, 'skips');
	const env = ['CI', 'ETCD_BIN', 'CONSUL_BIN', 'XDPILOT_CACHE', 'HOME', 'PATH']
		.filter((k) => process.env[k])
		.map((k) => `${k}=${process.env[k]}`);
	const node = [process.execPath, '--import', 'tsx', '--test', '--test-concurrency=1'];
	node.push('--test-reporter=spec', '--test-reporter-destination=stdout');
	node.push(`--test-reporter=${join(ROOT, 'scripts/skips-reporter.mjs')}`, `--test-reporter-destination=${skips}`);
	const [command, ...args] = [...prefix, ...(prefix.length > 0 ? ['env', ...env] : []), ...node, ...files];
	const done = spawnSync(command, args, { cwd: ROOT, stdio: 'inherit' });
	const skipped = existsSync(skips)
		? readFileSync(skips, 'utf8')
				.trim()
				.split('\n')
				.filter(Boolean)
				.map((l) => JSON.parse(l))
		: [];
	rmSync(dir, { recursive: true, force: true });
	return { ok: done.status === 0, skipped };
}

const full = named.length === 0;
if (full) {
	await setup({ yes: process.argv.includes('--yes'), servers: ['etcd', 'consul'] });
	must('lint', process.execPath, ['node_modules/@biomejs/biome/bin/biome', 'check', '--error-on-warnings', '.']);
	must('types', process.execPath, ['node_modules/typescript/bin/tsc', '--noEmit']);
}
const suites = full ? SUITES : SUITES.filter((s) => named.includes(s));
const prefix = rootPrefix();
const results = [];
if (isRoot()) results.push(runSuites(suites, []));
else {
	results.push(
		runSuites(
			suites.filter((s) => !PRIVILEGED.includes(s)),
			[],
		),
	);
	const privileged = suites.filter((s) => PRIVILEGED.includes(s));
	if (privileged.length > 0 && prefix) results.push(runSuites(privileged, prefix));
	else if (privileged.length > 0) {
		process.stdout.write(`run-tests: not run, since they need root: ${privileged.join(', ')} (run npm test as root, or install sudo)\n`);
		if (CI) process.exit(1);
	}
}
if (full ? isRoot() : named.includes('sanitize')) must('addon under sanitizers', process.execPath, ['scripts/sanitize.mjs']);

const skipped = results.flatMap((r) => r.skipped);
for (const s of skipped) process.stdout.write(`skipped: ${s.name}: ${s.reason || 'no reason given'}\n`);
const forbidden = skipped.filter((s) => !s.reason.includes('../shared'));
if (CI && forbidden.length > 0) {
	process.stderr.write(`run-tests: ${forbidden.length} tests were skipped, which counts as a failure where CI=true\n`);
	process.exit(1);
}
process.exit(results.every((r) => r.ok) ? 0 : 1);
