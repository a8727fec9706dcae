// SPDX-License-Identifier: Apache-2.0
// What a command may write to: data to stdout, all else to stderr. Text that is not for a terminal is never
// coloured, wrapped or cut.

export interface Output {
	write(text: string): unknown;
	readonly isTTY?: boolean;
}

export interface Terminal {
	readonly stdout: Output;
	readonly stderr: Output;
}

export type Colour = 'red' | 'green' | 'yellow' | 'dim' | 'bold';

const SGR: Readonly<Record<Colour, readonly [number, number]>> = {
	red: [31, 39],
	green: [32, 39],
	yellow: [33, 39],
	dim: [2, 22],
	bold: [1, 22],
};

/** Colours text, or leaves it. Colour never says anything that the words do not. */
export type Paint = (colour: Colour, text: string) => string;

/** Colours only on a terminal, and never with NO_COLOR set (no-color.org) or on a dumb one. */
export function painter(output: Output, environment: Readonly<Record<string, string | undefined>> = process.env): Paint {
	const off = environment.NO_COLOR !== undefined && environment.NO_COLOR !== '';
	if (output.isTTY !== true || off || environment.TERM === 'dumb') return (_colour, text) => text;
	return (colour, text) => `\x1b[${SGR[colour][0]}m${text}\x1b[${SGR[colour][1]}m`;
}

/** One JSON document on stdout. */
export function printJson(terminal: Terminal, value: unknown): void {
	terminal.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

/** Text from a registry or a file, made harmless for a terminal: no control, format or line-breaking characters. */
export function printable(text: string): string {
	return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '?');
}
