// SPDX-License-Identifier: Apache-2.0
// How a command fails: always the same parts in the same order, a stable code first, no stack trace unless
// XDPILOT_DEBUG asks for it. The exit status belongs to the code.
import { ConfigError, formatIssue } from '../config/config-error.ts';
import { EXIT, isSystemError, isXdpilotError, messageOf, XdpilotError } from '../errors.ts';
import { type Output, painter, printable } from './terminal.ts';

/** Everything thrown, as an error with a code. */
export function asXdpilotError(e: unknown): XdpilotError {
	if (isXdpilotError(e)) return e;
	if (isSystemError(e) && (e.code === 'EPERM' || e.code === 'EACCES')) {
		return new XdpilotError('E_PERMISSION', messageOf(e), { cause: e, hint: 'run it as root (sudo)' });
	}
	return new XdpilotError('E_INTERNAL', messageOf(e), {
		cause: e,
		hint: 'this is a bug; XDPILOT_DEBUG=1 shows where, please report it with that output',
	});
}

/** Prints the error for people and returns the exit status. */
export function reportError(e: unknown, stderr: Output, environment: Readonly<Record<string, string | undefined>> = process.env): number {
	const error = asXdpilotError(e);
	const paint = painter(stderr, environment);
	const lines = [`${paint('red', `error[${error.code}]`)}: ${printable(error.message)}`];
	if (error instanceof ConfigError) lines.push(...error.issues.map((issue) => `  ${printable(formatIssue(issue))}`));
	if (error.unaffected !== undefined) lines.push(printable(error.unaffected));
	if (error.hint !== undefined) lines.push(`try:  ${printable(error.hint)}`);
	stderr.write(`${lines.join('\n')}\n`);
	if (environment.XDPILOT_DEBUG) stderr.write(`${traceOf(e)}\n`);
	return error.exitStatus;
}

/** The same for programs, as --json prints it on stdout. */
export function errorJson(e: unknown): Record<string, unknown> {
	const error = asXdpilotError(e);
	return {
		code: error.code,
		message: error.message,
		unaffected: error.unaffected ?? null,
		hint: error.hint ?? null,
		retryable: error.retryable,
		issues: error instanceof ConfigError ? error.issues : [],
	};
}

function traceOf(e: unknown): string {
	if (!(e instanceof Error)) return String(e);
	return e.cause === undefined ? (e.stack ?? e.message) : `${e.stack ?? e.message}\ncaused by: ${traceOf(e.cause)}`;
}

/** Exit status of a reader that closed the pipe early (`xdpilot status | head`): nothing went wrong. */
export const CLOSED_PIPE_EXIT = EXIT.ok;
