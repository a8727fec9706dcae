// SPDX-License-Identifier: Apache-2.0
// What a person sees of a demo: headings, bars, facts and marks. Colours and a line that renews itself only on a
// terminal; nothing is said by colour alone.

/** Where text goes; process.stdout fits. */
export interface Sink {
	write(text: string): unknown;
	readonly isTTY?: boolean;
}

export type Tint = 'red' | 'green' | 'yellow' | 'dim' | 'bold';
export type Paint = (tint: Tint, text: string) => string;

export interface Bar {
	readonly label: string;
	readonly value: number;
	/** After the number, e.g. "leaving". */
	readonly note?: string;
}

const BAR_WIDTH = 36;
const EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

export class Screen {
	readonly #out: Sink;
	readonly #paint: Paint;
	#hasLive = false;
	#step = 0;

	constructor(out: Sink, paint: Paint) {
		this.#out = out;
		this.#paint = paint;
	}

	heading(text: string): void {
		this.#step++;
		this.#line('');
		this.#line(`${this.#paint('dim', `${this.#step}`)}  ${this.#paint('bold', text)}`);
	}

	text(text: string): void {
		this.#line(text);
	}

	/** An indented line with a name and what there is to say about it. */
	fact(name: string, value: string): void {
		this.#line(`   ${this.#paint('dim', name.padEnd(12))}  ${value}`);
	}

	/** A promise, kept or broken. */
	mark(isKept: boolean, text: string): void {
		this.#line(`   ${isKept ? this.#paint('green', 'ok  ') : this.#paint('red', 'FAIL')}  ${text}`);
	}

	bars(bars: readonly Bar[]): void {
		const most = Math.max(1, ...bars.map((b) => b.value));
		const total = Math.max(
			1,
			bars.reduce((sum, b) => sum + b.value, 0),
		);
		const width = Math.max(...bars.map((b) => String(b.value).length));
		for (const b of bars) {
			const share = `${Math.round((100 * b.value) / total)} %`.padStart(5);
			const note = b.note === undefined ? '' : `  ${this.#paint('yellow', b.note)}`;
			const drawn = bar(b.value / most).padEnd(BAR_WIDTH);
			this.#line(`   ${b.label.padEnd(4)} ${this.#paint('green', drawn)} ${String(b.value).padStart(width)} ${share}${note}`);
		}
	}

	/** A line that the next output replaces; nothing when this is no terminal. */
	live(text: string): void {
		if (this.#out.isTTY !== true) return;
		this.#out.write(`\r\x1b[K   ${this.#paint('dim', text)}`);
		this.#hasLive = true;
	}

	/** Leaves the terminal as it should be, whatever happened. */
	end(): void {
		this.#clearLive();
	}

	#line(text: string): void {
		this.#clearLive();
		this.#out.write(`${text}\n`);
	}

	#clearLive(): void {
		if (this.#hasLive) this.#out.write('\r\x1b[K');
		this.#hasLive = false;
	}
}

/** A bar of `share` (0 to 1) of the full width, to an eighth of a character. */
export function bar(share: number): string {
	const eighths = Math.round(Math.min(1, Math.max(0, share)) * BAR_WIDTH * 8);
	return '█'.repeat(eighths >> 3) + (EIGHTHS[eighths & 7] ?? '');
}
