// SPDX-License-Identifier: Apache-2.0
// Builds native/build/Release/xdpilot.node with node-gyp, unless it is already what these sources and this Node give.
// Headers beside process.execPath are used where they are there; node-gyp fetches them otherwise.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const NATIVE = join(ROOT, 'native');
const OUTPUT = join(NATIVE, 'build/Release/xdpilot.node');
const STAMP = join(NATIVE, 'build/.stamp');

/** Node's prefix when its headers are there and of its own major version; undefined otherwise. */
export function nodeHeaders() {
	const prefix = dirname(dirname(process.execPath));
	const version = join(prefix, 'include/node/node_version.h');
	if (!existsSync(version)) return undefined;
	const major = /#define NODE_MAJOR_VERSION (\d+)/.exec(readFileSync(version, 'utf8'))?.[1];
	return major === process.versions.node.split('.')[0] ? prefix : undefined;
}

/** Sources, Node, compiler settings: whatever changes the result. */
function fingerprint() {
	const hash = createHash('sha256');
	for (const name of readdirSync(NATIVE).sort()) {
		if (/\.(cc|h|gyp)$/.test(name)) hash.update(`${name}\0`).update(readFileSync(join(NATIVE, name)));
	}
	hash.update(readFileSync(join(ROOT, 'node_modules/node-addon-api/package.json')));
	return hash.update(`${process.versions.modules} ${process.arch} ${process.env.CXX ?? ''}`).digest('hex');
}

function build() {
	const headers = nodeHeaders();
	// Not `rebuild`: that would take the present addon away for as long as the build takes.
	const commands = process.argv.includes('--force') ? ['rebuild'] : ['configure', 'build'];
	const args = [join(ROOT, 'node_modules/node-gyp/bin/node-gyp.js'), ...commands, '--silent', '--directory', NATIVE, '--jobs', 'max'];
	const env = { ...process.env, npm_config_loglevel: 'error' };
	// node-gyp prefers this to its own argument, and it may name another Node's headers
	if (headers) env.npm_config_nodedir = headers;
	const done = spawnSync(process.execPath, args, { encoding: 'utf8', env });
	if (done.status === 0) return;
	process.stderr.write(`${done.stdout ?? ''}${done.stderr ?? ''}${done.error?.message ?? ''}\n`);
	process.stderr.write('build-native: the addon was not built; it needs g++, make, python3 and libbpf-dev (npm run setup installs them)\n');
	process.exit(1);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
	const now = fingerprint();
	const same = existsSync(OUTPUT) && existsSync(STAMP) && readFileSync(STAMP, 'utf8') === now;
	if (!same || process.argv.includes('--force')) {
		build();
		writeFileSync(STAMP, now);
	}
}
