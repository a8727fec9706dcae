// SPDX-License-Identifier: Apache-2.0
// The logger type that is handed in everywhere, and its two forms: people on a terminal, JSON elsewhere.
import pino, { type Logger } from 'pino';
import pretty from 'pino-pretty';

export type { Logger };

/** A logger to stderr: human-readable on a terminal, one JSON object a line otherwise. */
export function createLogger(opts: { level?: string; pretty?: boolean } = {}): Logger {
	const human = opts.pretty ?? process.stderr.isTTY === true;
	const options = { level: opts.level ?? 'info', base: null, timestamp: pino.stdTimeFunctions.isoTime };
	const stream = human
		? pretty({ destination: 2, sync: true, translateTime: 'SYS:HH:MM:ss.l', ignore: 'pid,hostname' })
		: pino.destination({ fd: 2, sync: true });
	return pino(options, stream);
}

/** A logger that says nothing, for tests and one-shot commands. */
export function silentLogger(): Logger {
	return pino({ level: 'silent' });
}
