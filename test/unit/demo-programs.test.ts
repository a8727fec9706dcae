// SPDX-License-Identifier: Apache-2.0
// Which programs a demo starts, and with which arguments.
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { loaderArguments, nodeScript } from '../../src/demo/node-script.ts';
import { findRegistryProgram } from '../../src/demo/registry/find-program.ts';

test("hands a loader on to its children, but not a test runner's arguments", () => {
	const own = ['--import', 'tsx', '--test', '--test-concurrency=1', '--require=./x.cjs', '--inspect'];
	assert.deepEqual(loaderArguments(own), ['--import', 'tsx', '--require=./x.cjs']);
	assert.deepEqual(loaderArguments([]), []);
});

test('starts a neighbour script in the form that this one has', () => {
	assert.equal(nodeScript('file:///app/dist/demo/a.js', './traffic/b', 'x').at(-2), '/app/dist/demo/traffic/b.js');
	assert.equal(nodeScript('file:///app/src/demo/a.ts', './traffic/b').at(-1), '/app/src/demo/traffic/b.ts');
});

test('finds a registry where it is named, on the PATH, or fetched, in that order', (t) => {
	const folder = mkdtempSync(join(tmpdir(), 'xdpilot-unit-'));
	t.after(() => rmSync(folder, { recursive: true, force: true }));
	const program = (...path: string[]) => {
		const file = join(folder, ...path);
		mkdirSync(join(file, '..'), { recursive: true });
		writeFileSync(file, '');
		chmodSync(file, 0o755);
		return file;
	};
	const named = program('named', 'my-consul');
	const onPath = program('path', 'consul');
	const fetched = program('cache', 'consul-1.8.7', 'consul');
	const all = { CONSUL_BIN: named, PATH: `/nonexistent:${join(folder, 'path')}`, XDPILOT_CACHE: join(folder, 'cache') };
	assert.equal(findRegistryProgram('consul', all), named);
	assert.equal(findRegistryProgram('consul', { ...all, CONSUL_BIN: '' }), onPath);
	assert.throws(() => findRegistryProgram('consul', { CONSUL_BIN: folder }), { code: 'E_USAGE', message: /CONSUL_BIN names/ });
	const last = findRegistryProgram('consul', { PATH: '', XDPILOT_CACHE: join(folder, 'cache') });
	assert.ok(last === fetched || last?.startsWith('/usr/'), `${last}`);
});
