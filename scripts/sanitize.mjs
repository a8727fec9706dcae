// SPDX-License-Identifier: Apache-2.0
// Runs the addon's tests under AddressSanitizer and UBSan (npm run test:sanitize). First it plants a bug of each kind
// and insists that it is reported: a sanitizer that does not look finds nothing, too. Then it looks for leaks.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { availableParallelism, homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { nodeHeaders } from './build-native.mjs';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const NATIVE = join(ROOT, 'native');
const OUT = join(NATIVE, 'build-asan');
const ADDON = join(OUT, 'xdpilot.node');
const CXX = process.env.CXX ?? 'g++';
const SANITIZERS = ['-fsanitize=address,undefined', '-fno-sanitize=vptr'];

function fail(message) {
	process.stderr.write(`sanitize: ${message}\n`);
	process.exit(1);
}

/** Where node_api.h is: beside Node, or where node-gyp put it when it built the addon. */
function headers() {
	const prefix = nodeHeaders();
	const fetched = join(homedir(), '.cache/node-gyp', process.versions.node);
	const folder = [prefix, process.env.npm_config_nodedir, fetched]
		.map((p) => p && join(p, 'include/node'))
		.find((p) => p && existsSync(join(p, 'node_api.h')));
	return folder ?? fail('node_api.h was not found: run npm run build:native first');
}

/** Runs the compiler; resolves when it has succeeded. */
function compile(args) {
	return new Promise((resolve) => {
		spawn(CXX, args, { stdio: 'inherit' }).once('close', (status) => (status === 0 ? resolve() : fail('the sanitizer build failed')));
	});
}

async function build() {
	// gyp's format is JSON with comments
	const gyp = readFileSync(join(NATIVE, 'binding.gyp'), 'utf8').replace(/^\s*#.*$/gm, '');
	const [target] = JSON.parse(gyp).targets;
	const sources = readdirSync(NATIVE).filter((f) => /\.(cc|h|gyp)$/.test(f));
	const newest = Math.max(...sources.map((f) => statSync(join(NATIVE, f)).mtimeMs));
	mkdirSync(OUT, { recursive: true });
	if (existsSync(ADDON) && statSync(ADDON).mtimeMs > newest) return;
	const own = target.cflags_cc.map((f) => f.replace('<(module_root_dir)', NATIVE)).filter((f) => f !== '-O2');
	const flags = ['-g', '-O1', '-fPIC', '-fno-omit-frame-pointer', '-fno-rtti', ...SANITIZERS];
	const defines = [...target.defines, 'XDPILOT_PLANTED_BUGS', 'NODE_GYP_MODULE_NAME=xdpilot'].map((d) => `-D${d}`);
	const waiting = [...target.sources, 'planted_bug.cc'];
	const objects = waiting.map((s) => join(OUT, `${s}.o`));
	const lane = async () => {
		for (let s = waiting.pop(); s; s = waiting.pop()) {
			await compile([...own, ...flags, ...defines, '-isystem', headers(), '-c', join(NATIVE, s), '-o', join(OUT, `${s}.o`)]);
		}
	};
	await Promise.all(Array.from({ length: availableParallelism() }, lane));
	await compile(['-shared', ...SANITIZERS, ...objects, '-o', ADDON, ...target.libraries]);
}

/** gcc's runtimes must be in the process before the addon, AddressSanitizer's first. */
function preload() {
	return ['libasan.so', 'libubsan.so']
		.map((lib) => spawnSync(CXX, [`-print-file-name=${lib}`], { encoding: 'utf8' }).stdout.trim())
		.join(':');
}

const SANITIZED = {
	XDPILOT_NATIVE: ADDON,
	LD_PRELOAD: preload(),
	ASAN_OPTIONS: 'detect_leaks=0:halt_on_error=1:exitcode=99',
	UBSAN_OPTIONS: 'halt_on_error=1:print_stacktrace=1:exitcode=99',
};

function node(args, env = {}) {
	return spawnSync(process.execPath, args, {
		cwd: ROOT,
		encoding: 'utf8',
		env: { ...process.env, ...SANITIZED, ...env },
		timeout: 600_000,
	});
}

/** [bug, what the report says, environment] */
const BUGS = [
	['heap-overflow', /heap-buffer-overflow.*HeapOverflow/s, {}],
	['use-after-free', /heap-use-after-free.*UseAfterFree/s, {}],
	['signed-overflow', /signed integer overflow/, {}],
	['leak', /LeakSanitizer: detected memory leaks.*Leak/s, { ASAN_OPTIONS: 'detect_leaks=1:exitcode=99' }],
];

function proveThatItLooks() {
	for (const [bug, report, env] of BUGS) {
		const code = `require(process.env.XDPILOT_NATIVE).plantedBugs[${JSON.stringify(bug)}]()`;
		const quiet = node(['-e', code], env);
		if (quiet.status !== 0) fail(`without the planted ${bug} the run should be clean:\n${quiet.stderr}`);
		const loud = node(['-e', code], { ...env, XDPILOT_PLANTED_BUG: bug });
		if (loud.status === 0 || !report.test(loud.stderr)) fail(`a planted ${bug} was not reported (status ${loud.status}):\n${loud.stderr}`);
	}
	process.stdout.write(`sanitize: ${BUGS.length} planted bugs were reported\n`);
}

/** Everything once, then an orderly end: what is still allocated then is reported. */
function lookForLeaks() {
	const dir = mkdtempSync(join(tmpdir(), 'xdpilot-leaks-'));
	try {
		const script = join(ROOT, 'test/support/exercise-addon.mjs');
		const done = node([script, dir], { ASAN_OPTIONS: 'detect_leaks=1:exitcode=99' });
		if (done.status !== 0) fail(`leaks, or a failure, in ${script}:\n${done.stdout}${done.stderr}`);
	} finally {
		rmSync(dir, { recursive: true, force: true });
	}
	process.stdout.write('sanitize: no leaks\n');
}

function runTests() {
	const folder = join(ROOT, 'test/integration');
	const files = readdirSync(folder).filter((f) => f.startsWith('native-') && f.endsWith('.test.ts'));
	const reporter = ['--test-reporter=spec', '--test-reporter-destination=stdout'];
	const done = node(['--import', 'tsx', '--test', '--test-concurrency=1', ...reporter, ...files.map((f) => join(folder, f))]);
	process.stdout.write(done.stdout);
	process.stderr.write(done.stderr);
	if (done.status !== 0) fail(`the tests failed (${done.signal ?? `status ${done.status}`})`);
}

await build();
proveThatItLooks();
lookForLeaks();
runTests();
