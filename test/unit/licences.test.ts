// SPDX-License-Identifier: Apache-2.0
// Every file states its licence in its first lines, or REUSE.toml states it; every licence named has its text.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const ROOT = join(import.meta.dirname, '../..');
/** What is built or fetched, and the licences themselves. */
const ignored = readFileSync(join(ROOT, '.gitignore'), 'utf8').matchAll(/^([^/\s]+)\/$/gm);
const OUTSIDE = new Set(['.git', 'LICENSE', 'LICENSES', ...Array.from(ignored, ([, name]) => name)]);

function filesOf(folder: string): string[] {
	return readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
		const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
		if (OUTSIDE.has(entry.name)) return [];
		return entry.isDirectory() ? filesOf(path) : entry.isFile() ? [path] : [];
	});
}

/** The licence expression in the first five lines, or undefined. */
function licenceOf(path: string): string | undefined {
	const head = readFileSync(join(ROOT, path), 'utf8').split('\n', 5).join('\n');
	return /SPDX-License-Identifier: (\(?[\w.-]+(?: (?:OR|AND|WITH) [\w.-]+)*)/.exec(head)?.[1];
}

const elsewhere = readFileSync(join(ROOT, 'REUSE.toml'), 'utf8');

test('every file says under which licence it stands', () => {
	const silent = filesOf('').filter((path) => licenceOf(path) === undefined && !elsewhere.includes(`"${path}"`));
	assert.deepEqual(silent, []);
});

test('what runs in the kernel may be used under the GPL or BSD, everything else is Apache-2.0', () => {
	for (const path of filesOf('')) {
		const isKernel = path.startsWith('bpf/') || path.endsWith('.bpf.c');
		const licence = licenceOf(path) ?? 'Apache-2.0';
		assert.equal(licence, isKernel ? 'GPL-2.0-only OR BSD-2-Clause' : 'Apache-2.0', path);
	}
	for (const name of ['Apache-2.0', 'BSD-2-Clause', 'GPL-2.0-only']) assert.ok(existsSync(join(ROOT, `LICENSES/${name}.txt`)), name);
});
