// SPDX-License-Identifier: Apache-2.0
// Makes a checkout ready: Debian packages, npm packages, BPF objects, native addon, JavaScript. Plain Node without
// dependencies, because it runs before there are any. Idempotent, and quick when there is nothing to do.
// Raises only what needs root (apt-get); everything inside the checkout is written as the checkout's owner.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { accessSync, chmodSync, constants, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { fileURLToPath } from 'node:url';

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const MIN_NODE = [20, 17];

/** What is needed, how to tell that it is there, and the Debian package that brings it. */
const REQUIREMENTS = [
	{ package: 'make', commands: ['make'], why: 'builds the BPF objects and the addon' },
	{ package: 'g++', commands: ['g++'], why: 'compiles the native addon' },
	{ package: 'python3', commands: ['python3'], why: 'node-gyp needs it' },
	{ package: 'clang', commands: ['clang'], why: 'compiles the XDP programs' },
	{ package: 'llvm', commands: ['llvm-strip'], why: 'strips the BPF objects' },
	{ package: 'libc6-dev', files: ['/usr/include/linux/bpf.h'], why: 'kernel headers for the XDP programs' },
	{ package: 'libbpf-dev', files: ['/usr/include/bpf/libbpf.h'], why: 'loads the XDP programs' },
	{ package: 'libelf-dev', files: ['/usr/include/libelf.h'], why: 'libbpf needs it' },
	{ package: 'bpftool', commands: ['bpftool'], why: 'reads type information for the generated code' },
	{ package: 'iproute2', commands: ['ip', 'tc'], why: 'network namespaces, gateway discovery' },
	{ package: 'ethtool', commands: ['ethtool'], why: 'switches checksum offload off in the demo network' },
	{ package: 'iputils-ping', commands: ['ping'], why: 'ICMP traffic in tests' },
	{ package: 'procps', commands: ['sysctl'], why: 'interface settings on backends' },
];

const SEARCH = [...(process.env.PATH ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin'];

export function onPath(command) {
	return SEARCH.map((dir) => join(dir, command)).find((file) => {
		try {
			accessSync(file, constants.X_OK);
			return statSync(file).isFile();
		} catch {
			return false;
		}
	});
}

/** Ends the program with one clear line. */
export function fail(message) {
	process.stderr.write(`setup: ${message}\n`);
	process.exit(1);
}

function checkNode() {
	const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
	if (major < MIN_NODE[0] || (major === MIN_NODE[0] && minor < MIN_NODE[1])) {
		fail(`Node ${process.versions.node} is too old: XDPilot needs Node ${MIN_NODE.join('.')} or later (https://nodejs.org)`);
	}
	if (process.platform !== 'linux') fail(`XDP exists on Linux only, this is ${process.platform}`);
}

export const isRoot = () => process.getuid() === 0;

/** Who owns the checkout: what is built belongs to them, also under sudo. */
function owner() {
	const { uid, gid } = statSync(ROOT);
	return { uid, gid };
}

/** Options that make a child run as the checkout's owner when we are root and they are not. */
function asOwner() {
	const { uid, gid } = owner();
	if (!isRoot() || uid === 0) return {};
	const passwd = readFileSync('/etc/passwd', 'utf8')
		.split('\n')
		.map((l) => l.split(':'));
	const entry = passwd.find((f) => Number(f[2]) === uid);
	return { uid, gid, env: { ...process.env, HOME: entry?.[5] ?? '/nonexistent', USER: entry?.[0] ?? String(uid) } };
}

/** The words that run a command as root: none as root, sudo otherwise; undefined when neither is possible. */
export function rootPrefix() {
	if (isRoot()) return [];
	const sudo = onPath('sudo');
	return sudo ? [sudo] : undefined;
}

function run(title, command, args, options = {}) {
	const quiet = process.env.XDPILOT_VERBOSE === undefined;
	const started = process.hrtime.bigint();
	const done = spawnSync(command, args, {
		cwd: ROOT,
		stdio: ['inherit', quiet ? 'pipe' : 'inherit', quiet ? 'pipe' : 'inherit'],
		maxBuffer: 1 << 28,
		...options,
	});
	if (done.error) fail(`${title}: ${done.error.message}`);
	if (done.status !== 0) {
		process.stderr.write(`${done.stdout ?? ''}${done.stderr ?? ''}`);
		fail(`${title} failed: ${[command, ...args].join(' ')} ended with ${done.signal ?? `status ${done.status}`}`);
	}
	const seconds = Number(process.hrtime.bigint() - started) / 1e9;
	if (seconds > 1) process.stderr.write(`setup: ${title} (${seconds.toFixed(0)} s)\n`);
}

async function confirm(yes) {
	if (yes || process.env.CI === 'true' || !process.stdin.isTTY) return;
	const rl = createInterface({ input: process.stdin, output: process.stderr });
	const answer = await rl.question('Install them now? [Y/n] ');
	rl.close();
	if (!/^(y|yes|)$/i.test(answer.trim())) fail('nothing was changed; install the packages yourself, then run this again');
}

function missingRequirements() {
	return REQUIREMENTS.filter((r) => !(r.commands ?? []).every(onPath) || !(r.files ?? []).every((f) => existsSync(f)));
}

async function installPackages(yes) {
	const missing = missingRequirements();
	if (missing.length === 0) return;
	const names = missing.map((r) => r.package);
	if (!onPath('apt-get')) {
		fail(
			`these are missing and there is no apt-get here to install them: ${names.join(', ')}; install their equivalents, then run this again`,
		);
	}
	const prefix = rootPrefix();
	if (!prefix) fail(`these packages are missing and need root to install: apt-get install ${names.join(' ')}`);
	process.stderr.write('setup: these Debian packages are missing and will be installed with apt-get:\n');
	for (const r of missing) process.stderr.write(`  ${r.package.padEnd(14)} ${r.why}\n`);
	process.stderr.write('Everything else is written inside this checkout and in ~/.cache/xdpilot.\n');
	await confirm(yes);
	const apt = (title, ...args) => {
		const [command, ...rest] = [...prefix, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-qq', ...args];
		run(title, command, rest);
	};
	apt('apt-get update', 'update');
	apt(`installed ${names.join(' ')}`, 'install', '-y', '--no-install-recommends', ...names);
	const still = missingRequirements();
	if (still.length > 0) fail(`apt-get succeeded, but these are still missing: ${still.map((r) => r.package).join(', ')}`);
}

/** SHA-256 over the names and contents of files and folders, for "has anything changed". */
function fingerprint(paths) {
	const hash = createHash('sha256');
	const add = (path) => {
		if (!existsSync(path)) return;
		if (statSync(path).isDirectory()) {
			for (const name of readdirSync(path).sort()) add(join(path, name));
			return;
		}
		hash
			.update(`${path.slice(ROOT.length)}\0`)
			.update(readFileSync(path))
			.update('\0');
	};
	for (const p of paths) add(join(ROOT, p));
	hash.update(process.version);
	return hash.digest('hex');
}

/** Runs a step unless its inputs are what they were when it last succeeded. */
function step(name, inputs, output, build) {
	const stamp = join(ROOT, 'build', `.${name}.stamp`);
	const now = fingerprint(inputs);
	if (existsSync(join(ROOT, output)) && existsSync(stamp) && readFileSync(stamp, 'utf8') === now) return;
	build();
	const as = asOwner();
	const write = `const fs=require('node:fs');fs.mkdirSync(${JSON.stringify(dirname(stamp))},{recursive:true});fs.writeFileSync(${JSON.stringify(stamp)},${JSON.stringify(now)})`;
	if (as.uid === undefined) {
		mkdirSync(dirname(stamp), { recursive: true });
		writeFileSync(stamp, now);
	} else run('stamp', process.execPath, ['-e', write], as);
}

/** npm's own program, run by this Node: `npm` may not be on root's PATH when Node lives in a home directory. */
function npmCli() {
	const beside = join(dirname(dirname(process.execPath)), 'lib/node_modules/npm/bin/npm-cli.js');
	const candidates = [process.env.npm_execpath, beside, '/usr/lib/node_modules/npm/bin/npm-cli.js', '/usr/share/nodejs/npm/bin/npm-cli.js'];
	const cli = candidates.find((c) => c?.endsWith('.js') && existsSync(c));
	return cli ?? fail('npm was not found beside Node: install it, then run this again');
}

function buildAll() {
	const as = asOwner();
	const node = (title, ...args) => run(title, process.execPath, args, as);
	step('npm', ['package.json', 'package-lock.json'], 'node_modules/.package-lock.json', () =>
		node('installed npm packages', npmCli(), 'ci', '--ignore-scripts', '--no-audit', '--no-fund'),
	);
	run('built the BPF objects', 'make', ['-s', '-C', 'bpf'], as);
	node('built the native addon', 'scripts/build-native.mjs');
	step('dist', ['src', 'tsconfig.json', 'tsconfig.build.json', 'package-lock.json'], 'dist/main.js', () => {
		node('compiled TypeScript', 'node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json');
		// `npx xdpilot` runs it as a program.
		chmodSync(join(ROOT, 'dist/main.js'), 0o755);
	});
}

/** Finds or fetches the real registries into the cache folder; a machine that can't have them goes without. */
function fetchServers(names) {
	for (const name of names) {
		const done = spawnSync(process.execPath, [`scripts/fetch-${name}.mjs`], { cwd: ROOT, encoding: 'utf8', ...asOwner() });
		if (done.status !== 0)
			process.stderr.write(
				`setup: ${name} could not be had (${(done.stderr ?? '').trim().split('\n').at(-1)}); supply one with ${name.toUpperCase()}_BIN\n`,
			);
	}
}

/**
 * Brings the checkout up to date.
 * @param {{ yes?: boolean, servers?: string[] }} options servers: which of `etcd`, `consul` to find or fetch
 */
export async function setup(options = {}) {
	checkNode();
	await installPackages(options.yes === true);
	buildAll();
	fetchServers(options.servers ?? []);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
	await setup({ yes: process.argv.includes('--yes'), servers: ['etcd', 'consul'] });
	process.stderr.write(`setup: ready (${userInfo().username}, Node ${process.versions.node})\n`);
}
