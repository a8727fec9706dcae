// SPDX-License-Identifier: Apache-2.0
// Finds the registries that tests and demo run against, or takes them from Debian into a cache folder. Plain Node
// without dependencies, as any user; nothing is installed over the system. The mirror is the one that this machine's
// own sources name, and apt checks its signature against Debian's keys, whoever the mirror is.
import { spawnSync } from 'node:child_process';
import {
	accessSync,
	chmodSync,
	constants,
	existsSync,
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	renameSync,
	rmSync,
	statSync,
	writeFileSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** `suite`: where Debian has it; null = the release of this machine. */
const SERVERS = {
	consul: { variable: 'CONSUL_BIN', folder: 'consul-1.8.7', package: 'consul', file: 'usr/bin/consul', suite: 'bullseye' },
	etcd: { variable: 'ETCD_BIN', folder: 'etcd', package: 'etcd-server', file: 'usr/bin/etcd', suite: null },
};

/** Absolute path of a server: its variable, the PATH, the cache; undefined when there is none. @throws Error when the variable names no program */
export function findServer(name) {
	const server = SERVERS[name];
	const named = process.env[server.variable];
	if (named) {
		if (isProgram(named)) return named;
		throw new Error(`${server.variable} names ${named}, which is not an executable file`);
	}
	const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/local/bin', '/usr/bin', cacheFolder(name)];
	return folders
		.filter(Boolean)
		.map((folder) => join(folder, name))
		.find(isProgram);
}

/** How to come by a server that is not there. */
export function supplyHint(name) {
	const { variable, package: debianPackage } = SERVERS[name];
	const install = name === 'etcd' ? ` (Debian: apt install ${debianPackage})` : '';
	return `no ${name}: run node scripts/fetch-${name}.mjs, put ${name} on the PATH${install} or set ${variable}=/path/to/${name}`;
}

/** Finds a server or fetches it; idempotent. @throws Error with one line for people */
export function provideServer(name) {
	return findServer(name) ?? fetchServer(name);
}

/** Runs a fetch script: prints the path, or says in one line why there is none. */
export function main(name) {
	try {
		process.stdout.write(`${provideServer(name)}\n`);
	} catch (e) {
		process.stderr.write(`fetch-${name}: ${e.message}; ${supplyHint(name)}\n`);
		process.exitCode = 1;
	}
}

function cacheFolder(name) {
	return join(process.env.XDPILOT_CACHE || join(homedir(), '.cache', 'xdpilot'), SERVERS[name].folder);
}

function isProgram(file) {
	try {
		accessSync(file, constants.X_OK);
		return statSync(file).isFile();
	} catch {
		return false;
	}
}

function fetchServer(name) {
	const server = SERVERS[name];
	if (!isProgram('/usr/bin/apt-get') || !isProgram('/usr/bin/dpkg')) throw new Error('this machine has no apt to fetch it with');
	if (!existsSync(KEYRING)) throw new Error(`${KEYRING} is missing, so that nothing from Debian could be verified`);
	const release = osRelease();
	const suite = server.suite ?? release;
	const mirrors = mirrorsOf(release);
	if (mirrors.length === 0) throw new Error(`the package sources of this machine name no mirror of Debian ${release}`);
	const work = mkdtempSync(join(tmpdir(), 'xdpilot-fetch-'));
	try {
		const failures = [];
		for (const mirror of mirrors) {
			const failure = download(work, mirror, suite, server.package);
			if (failure === undefined) return install(work, name);
			failures.push(failure);
		}
		throw new Error(`Debian ${suite} can't be read: ${failures[0]}`);
	} finally {
		rmSync(work, { recursive: true, force: true });
	}
}

function osRelease() {
	const text = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '';
	const [, codename] = /^VERSION_CODENAME=(\w+)$/m.exec(text) ?? [];
	if (codename === undefined || !/^ID=debian$/m.test(text)) throw new Error('this machine does not run a Debian release');
	return codename;
}

/** Where this machine gets its own release from. */
function mirrorsOf(release) {
	const format = '$(REPO_URI) $(RELEASE) $(COMPONENT)';
	const listed = spawnSync('apt-get', ['indextargets', '--format', format, 'Created-By: Packages'], { encoding: 'utf8' });
	const rows = (listed.stdout ?? '').split('\n').map((line) => line.split(' '));
	return [...new Set(rows.filter(([, from, component]) => from === release && component === 'main').map(([uri]) => uri))];
}

/** Downloads a package with a private apt state; the reason when it fails. */
function download(work, mirror, suite, debianPackage) {
	const folders = Object.fromEntries(['parts', 'lists', 'cache', 'state', 'download'].map((f) => [f, join(work, f)]));
	for (const folder of Object.values(folders)) mkdirSync(folder, { recursive: true });
	for (const folder of [folders.lists, folders.cache]) mkdirSync(join(folder, 'partial'), { recursive: true });
	const source = ['Types: deb', `URIs: ${mirror}`, `Suites: ${suite}`, 'Components: main', `Signed-By: ${KEYRING}`];
	writeFileSync(join(folders.parts, 'debian.sources'), `${source.join('\n')}\n`);
	const options = {
		'Dir::Etc::sourcelist': '/dev/null',
		'Dir::Etc::sourceparts': folders.parts,
		'Dir::State': folders.state,
		'Dir::State::lists': folders.lists,
		'Dir::Cache': folders.cache,
		'Dir::Cache::archives': folders.cache,
		// The private folders belong to whoever runs this, not to apt's own user.
		'APT::Sandbox::User': 'root',
		'Acquire::Languages': 'none',
		'Acquire::Retries': '2',
		'Acquire::http::Timeout': '30',
		'Acquire::AllowInsecureRepositories': 'false',
		'APT::Get::AllowUnauthenticated': 'false',
	};
	const args = Object.entries(options).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
	for (const command of [['update'], ['download', debianPackage]]) {
		const done = spawnSync('apt-get', ['-q', ...args, ...command], {
			cwd: folders.download,
			encoding: 'utf8',
			timeout: 300_000,
			env: { ...process.env, LC_ALL: 'C' },
		});
		const complaint = `${done.stderr ?? ''}`.split('\n').find((l) => /^[EW]:/.test(l));
		// An update that fails leaves the exit status at 0 and says W:.
		if (done.status !== 0 || (command[0] === 'update' && complaint)) return complaint ?? `apt-get ${command[0]} failed`;
	}
	return undefined;
}

/** Unpacks the server's program and licence into the cache, whole or not at all. */
function install(work, name) {
	const server = SERVERS[name];
	const [debianFile] = readdirSync(join(work, 'download')).filter((f) => f.endsWith('.deb'));
	if (debianFile === undefined) throw new Error(`Debian has no package ${server.package} for this machine`);
	const root = join(work, 'root');
	const unpacked = spawnSync('dpkg', ['-x', join(work, 'download', debianFile), root], { encoding: 'utf8' });
	if (unpacked.status !== 0) throw new Error(`${debianFile} can't be unpacked: ${unpacked.stderr.trim()}`);
	const folder = cacheFolder(name);
	mkdirSync(folder, { recursive: true });
	const staging = mkdtempSync(join(folder, '.new-'));
	try {
		for (const [from, to] of [
			[join('usr/share/doc', server.package, 'copyright'), 'copyright'],
			[server.file, name],
		]) {
			writeFileSync(join(staging, to), readFileSync(join(root, from)));
			chmodSync(join(staging, to), to === name ? 0o755 : 0o644);
			renameSync(join(staging, to), join(folder, to));
		}
	} finally {
		rmSync(staging, { recursive: true, force: true });
	}
	return join(folder, name);
}
