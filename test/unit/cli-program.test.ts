// SPDX-License-Identifier: Apache-2.0
// The command line: help, usage errors, exit statuses, the form of errors, tables.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createProgram } from '../../src/cli/program.ts';
import { errorJson, reportError } from '../../src/cli/report-error.ts';
import { renderTable } from '../../src/cli/table.ts';
import { painter, printable } from '../../src/cli/terminal.ts';
import { XdpilotError } from '../../src/errors.ts';
import { packageVersion } from '../../src/version.ts';
import { cli } from '../support/run-cli.ts';

const QUIET = { stdout: { write: () => undefined }, stderr: { write: () => undefined }, exitWith: () => undefined };
const VERBS = (await createProgram(QUIET)).commands.map((c) => c.name());

test('a verb is loaded alone', async () => {
	for (const verb of VERBS)
		assert.deepEqual(
			(await createProgram(QUIET, verb)).commands.map((c) => c.name()),
			[verb],
		);
	assert.ok((await createProgram(QUIET, 'constructor')).commands.length > 1);
});

test('help begins with examples and names every command', async () => {
	const { status, stdout, stderr } = await cli('--help');
	assert.equal(status, 0);
	assert.equal(stderr, '');
	assert.match(stdout, /^Examples:\n {2}(sudo )?xdpilot /);
	for (const verb of VERBS) assert.match(stdout, new RegExp(`^ {2}${verb} `, 'm'));
});

test('every example of the help is a command line that exists', async () => {
	const { stdout } = await cli('--help');
	const examples = stdout.split('\n').filter((line) => /^ {2}(sudo )?xdpilot /.test(line));
	for (const line of examples) assert.ok(VERBS.includes(/xdpilot (\S+)/.exec(line)?.[1] ?? ''), line);
});

for (const verb of VERBS) {
	test(`${verb} explains itself in less than 40 lines`, async () => {
		const { status, stdout } = await cli(verb, '--help');
		assert.equal(status, 0);
		assert.match(stdout, new RegExp(`^Usage: xdpilot ${verb} `));
		assert.ok(stdout.split('\n').length < 40);
	});
	test(`${verb} refuses an unknown option with status 64`, async () => {
		const { status, stdout, stderr } = await cli(verb, '--no-such-option');
		assert.equal(status, 64);
		assert.equal(stdout, '');
		assert.match(stderr, /^error\[E_USAGE\]: (unknown option '--no-such-option'|required option '.*' not specified)\n/);
	});
}

test('the version is that of the package', async () => {
	assert.deepEqual(await cli('--version').then(({ status, stdout }) => [status, stdout]), [0, `${packageVersion()}\n`]);
});

test('without a command the help is shown, but on stderr and with status 64', async () => {
	const { status, stdout, stderr } = await cli();
	assert.equal(status, 64);
	assert.equal(stdout, '');
	assert.match(stderr, /^Examples:/);
});

test('a misspelt command or option names the nearest', async () => {
	assert.match((await cli('chek')).stderr, /^error\[E_USAGE\]: unknown command 'chek'\ntry: {2}did you mean check\?\n$/);
	assert.match((await cli('status', '--jsn')).stderr, /unknown option '--jsn'\ntry: {2}did you mean --json\?/);
	assert.equal((await cli('chek')).status, 64);
});

test('abbreviations of options are refused', async () => {
	assert.equal((await cli('check', '--conf', 'x')).status, 64);
});

test('with --json an error is JSON on stdout too', async () => {
	const { status, json, stderr } = await cli('why', 'x', 'y', '--json');
	assert.equal(status, 64);
	assert.match(stderr, /^error\[E_USAGE\]/);
	const { schema, error } = json() as { schema: string; error: { code: string; hint: string } };
	assert.equal(schema, 'xdpilot.error/v1');
	assert.equal(error.code, 'E_USAGE');
	assert.match(error.hint, /^xdpilot why /);
});

function printed(e: unknown, environment: Record<string, string> = {}): string {
	let text = '';
	reportError(e, { write: (t) => (text += t) }, environment);
	return text;
}

test('an error has code, sentence, what is unaffected and a mend, in this order', () => {
	const e = new XdpilotError('E_ATTACH', 'cannot attach to eth0', {
		unaffected: 'nothing was changed',
		hint: 'set datapath.mode: generic',
	});
	assert.equal(printed(e), 'error[E_ATTACH]: cannot attach to eth0\nnothing was changed\ntry:  set datapath.mode: generic\n');
	assert.equal(printed(new XdpilotError('E_DATAPATH', 'x')), 'error[E_DATAPATH]: x\n');
});

test('no stack trace unless XDPILOT_DEBUG asks for it, then with causes', () => {
	const e = new XdpilotError('E_SOURCE', 'consul is down', { cause: new Error('ECONNREFUSED') });
	assert.doesNotMatch(printed(e), /\.ts:\d+/);
	assert.match(printed(e, { XDPILOT_DEBUG: '1' }), /\.ts:\d+[\s\S]*caused by: Error: ECONNREFUSED/);
});

test('what is thrown without a code is a bug, or a missing permission', () => {
	assert.match(printed(new TypeError('x is not a function')), /^error\[E_INTERNAL\]: x is not a function\ntry: {2}this is a bug/);
	assert.match(printed('text'), /^error\[E_INTERNAL\]: text/);
	const denied = Object.assign(new Error('EPERM: operation not permitted, open'), { code: 'EPERM', errno: -1 });
	assert.match(printed(denied), /^error\[E_PERMISSION\][\s\S]*sudo/);
	assert.equal(errorJson(denied).code, 'E_PERMISSION');
});

test('names from a registry can not write to the terminal', () => {
	assert.equal(printable('web\x1b[2J\u202e\u2028\n'), 'web?[2J???');
	assert.equal(printed(new XdpilotError('E_SOURCE', 'service \x1b]0;x\x07')), 'error[E_SOURCE]: service ?]0;x?\n');
});

const PLAIN = (_colour: string, text: string) => text;

test('tables align numbers to the right and leave out columns that say nothing', () => {
	const rows = [
		{ name: 'web', packets: 1200, note: null, state: 'active' },
		{ name: 'api-internal', packets: 7, note: null, state: 'active' },
	];
	assert.deepEqual(
		renderTable(
			rows,
			[
				{ title: 'pool', value: (r) => r.name },
				{ title: 'packets', value: (r) => r.packets },
				{ title: 'state', value: (r) => r.state, omit: 'same' },
				{ title: 'note', value: (r) => r.note },
			],
			PLAIN,
		),
		['POOL          PACKETS  NOTE', 'web              1200  -', 'api-internal        7  -'],
	);
});

test('a column that may be empty is shown as soon as a row says something, be it the only row', () => {
	const titles = (error: string | number | null) => {
		const columns = [
			{ title: 'source', value: () => 'etcd' },
			{ title: 'error', value: () => error, omit: 'empty' },
		] as const;
		return renderTable([{}], columns, PLAIN)[0];
	};
	assert.equal(titles('connect ECONNREFUSED'), 'SOURCE  ERROR');
	assert.equal(titles(2), 'SOURCE  ERROR');
	for (const nothing of [null, '', 0]) assert.equal(titles(nothing), 'SOURCE');
});

test('colour only on a terminal, and not with NO_COLOR', () => {
	const terminal = { write: () => undefined, isTTY: true };
	assert.equal(painter(terminal, {})('red', 'x'), '\x1b[31mx\x1b[39m');
	assert.equal(painter(terminal, { NO_COLOR: '1' })('red', 'x'), 'x');
	assert.equal(painter(terminal, { TERM: 'dumb' })('red', 'x'), 'x');
	assert.equal(painter({ write: () => undefined }, {})('red', 'x'), 'x');
});
