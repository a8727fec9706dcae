// SPDX-License-Identifier: Apache-2.0
// Running system programs: what comes back, what an operator reads when one fails, and that none runs for ever.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inNetns, readLines, runCommand, runJson } from '../../src/host/command.ts';

const NODE = process.execPath;

test('gives back what a program prints, and hands it its input', async () => {
	assert.equal(await runCommand(['cat'], { input: 'as it is\n' }), 'as it is\n');
	assert.deepEqual(await runJson(['cat'], { input: '[1]' }), [1]);
	assert.deepEqual(await runJson(['cat'], { input: ' \n' }), []);
});

test('passes arguments as they are, with no shell to read them', async () => {
	assert.equal(await runCommand(['printf', '%s', '$(id); `id` > "x"']), '$(id); `id` > "x"');
});

test('names the program and what it said when it fails', async () => {
	const failing = runCommand([NODE, '-e', 'console.error("no such thing"); process.exit(3)']);
	await assert.rejects(failing, { code: 'E_HOST', message: /process\.exit\(3\) failed: no such thing$/ });
	await assert.rejects(runJson(['printf', 'no json']), { code: 'E_HOST', message: /printed no JSON: no json/ });
});

test('says that a program is missing', async () => {
	await assert.rejects(runCommand(['xdpilot-no-such-program']), {
		code: 'E_PLATFORM',
		message: 'xdpilot-no-such-program is not installed',
	});
});

test('ends a program that takes too long', async () => {
	const endless = runCommand([NODE, '-e', 'setInterval(() => {}, 1000)'], { deadlineMs: 200 });
	await assert.rejects(endless, { code: 'E_HOST', message: /did not end within 200 ms/ });
});

test('enters a network namespace without hiding bpffs', () => {
	assert.deepEqual(inNetns(['ip', 'link'], '/run/netns/lb'), ['nsenter', '--net=/run/netns/lb', '--', 'ip', 'link']);
	assert.deepEqual(inNetns(['ip', 'link'], undefined), ['ip', 'link']);
});

test('reads lines as they come, says when the program has ended, and is silent once closed', async () => {
	const lines: string[] = [];
	const why = await new Promise<string>((resolve) => {
		readLines(['printf', 'one\ntwo\nrest'], undefined, (line) => lines.push(line), resolve);
	});
	assert.deepEqual(lines, ['one', 'two']);
	assert.match(why, /ended with status 0/);

	const unexpected: string[] = [];
	const reader = readLines(
		[NODE, '-e', 'setInterval(() => console.log("x"), 1)'],
		undefined,
		() => {},
		(end) => unexpected.push(end),
	);
	await reader.close();
	assert.deepEqual(unexpected, []);
});
