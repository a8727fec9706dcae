// SPDX-License-Identifier: Apache-2.0
// docs/errors.md has one row for each code, with the exit status that the code really has.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { ERROR_CODES, XdpilotError } from '../../src/errors.ts';

const PAGE = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8');

function rows(): string[][] {
	return PAGE.split('\n')
		.filter((line) => line.startsWith('| `E_'))
		.map((line) =>
			line
				.split('|')
				.slice(1, -1)
				.map((cell) => cell.trim()),
		);
}

test('each code has its row, in the order of the source, and no row is left over', () => {
	assert.deepEqual(
		rows().map(([code]) => code?.replaceAll('`', '')),
		[...ERROR_CODES],
	);
});

test('each row has the exit status of its code and says what to do', () => {
	for (const code of ERROR_CODES) {
		const [, exit, meaning, , action] = rows().find(([name]) => name === `\`${code}\``) ?? [];
		assert.equal(Number(exit), new XdpilotError(code, '').exitStatus, code);
		assert.ok((meaning ?? '').length > 5 && (action ?? '').length > 10, `${code} is not explained`);
	}
});
