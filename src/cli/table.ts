// SPDX-License-Identifier: Apache-2.0
// Tables as kubectl prints them: upper-case headers, two blanks between columns, no borders, numbers to the right,
// one record a line.
import { type Colour, type Paint, printable } from './terminal.ts';

export interface Column<Row> {
	readonly title: string;
	readonly value: (row: Row) => string | number | null;
	readonly colour?: (row: Row) => Colour | undefined;
	/** Left out when every row says the same, or when no row says anything (null, "" or 0). */
	readonly omit?: 'same' | 'empty';
}

/** Lines without a newline at their end. Unknown values are "-". */
export function renderTable<Row>(rows: readonly Row[], columns: readonly Column<Row>[], paint: Paint): string[] {
	const shown = columns.filter((column) => !isOmitted(column, rows.map(column.value)));
	const texts = rows.map((row) => shown.map((column) => cell(column.value(row))));
	const isNumber = shown.map((column) => {
		const known = rows.map(column.value).filter((value) => value !== null);
		return known.length > 0 && known.every((value) => typeof value === 'number');
	});
	const widths = shown.map((column, i) => Math.max(column.title.length, ...texts.map((row) => row[i]?.length ?? 0)));
	const line = (cells: readonly string[], colours: readonly (Colour | undefined)[]) =>
		cells
			.map((text, i) => {
				const last = i === cells.length - 1;
				const padded = isNumber[i] ? text.padStart(widths[i] ?? 0) : last ? text : text.padEnd(widths[i] ?? 0);
				const colour = colours[i];
				return colour === undefined ? padded : paint(colour, padded);
			})
			.join('  ');
	const titles = shown.map((column) => column.title.toUpperCase());
	return [line(titles, []), ...texts.map((cells, r) => line(cells, colours(shown, rows[r])))];
}

function isOmitted<Row>({ omit }: Column<Row>, values: readonly (string | number | null)[]): boolean {
	if (omit === 'same') return new Set(values).size <= 1;
	return omit === 'empty' && !values.some(Boolean);
}

function colours<Row>(columns: readonly Column<Row>[], row: Row | undefined): (Colour | undefined)[] {
	return columns.map((column) => (row === undefined ? undefined : column.colour?.(row)));
}

function cell(value: string | number | null): string {
	return value === null || value === '' ? '-' : printable(String(value));
}
