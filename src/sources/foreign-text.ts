// SPDX-License-Identifier: Apache-2.0
// Text that strangers wrote, made fit for messages and identities: nothing in it can forge a line of a log or turn a
// terminal around.

const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]/u;

/** In quotes, shortened, for a message. */
export function quote(text: string): string {
	const short = text.length > 60 ? `${text.slice(0, 57)}...` : text;
	return JSON.stringify(short).replace(new RegExp(UNPRINTABLE, 'gu'), '?');
}

/** Itself where it is printable, else with escapes. Different texts stay different. */
export function printable(text: string): string {
	if (!UNPRINTABLE.test(text) && !text.includes('\\u{')) return text;
	return text.replace(/[\p{C}\p{Zl}\p{Zp}]|\\u\{/gu, (c) => `\\u{${c.codePointAt(0)?.toString(16)}}`);
}
