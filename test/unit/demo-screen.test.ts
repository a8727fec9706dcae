// SPDX-License-Identifier: Apache-2.0
// What the demo draws, and that it draws nothing which only a terminal understands when there is none.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bar, Screen } from '../../src/demo/screen.ts';

function screenOn(isTTY: boolean): { screen: Screen; text: () => string } {
	let text = '';
	const sink = {
		isTTY,
		write: (t: string) => {
			text += t;
		},
	};
	return { screen: new Screen(sink, (_tint, t) => t), text: () => text };
}

test('draws bars in proportion, down to an eighth of a character', () => {
	assert.equal(bar(0), '');
	assert.equal(bar(1).length, 36);
	assert.equal(bar(0.5).length, 18);
	assert.equal(bar(1 / 288), '▏');
	assert.equal(bar(7).length, 36);
});

test('numbers its headings, and shows shares that can be read without the bars', () => {
	const { screen, text } = screenOn(false);
	screen.heading('First');
	screen.bars([
		{ label: 'b1', value: 30 },
		{ label: 'b2', value: 10, note: 'leaving' },
	]);
	screen.heading('Second');
	assert.match(text(), /^\n1 {2}First\n/);
	assert.match(text(), /b1 .* 30 {2}75 %\n/);
	assert.match(text(), /b2 .* 10 {2}25 % {2}leaving\n/);
	assert.match(text(), /\n2 {2}Second\n$/);
});

test('renews a line only on a terminal, and leaves it clean', () => {
	const pipe = screenOn(false);
	pipe.screen.live('working');
	pipe.screen.end();
	assert.equal(pipe.text(), '');

	const terminal = screenOn(true);
	terminal.screen.live('working');
	terminal.screen.text('done');
	terminal.screen.end();
	assert.equal(terminal.text(), '\r\x1b[K   working\r\x1b[Kdone\n');
});
