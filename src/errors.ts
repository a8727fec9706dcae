// SPDX-License-Identifier: Apache-2.0
// Every error an operator can meet has a stable code; docs/errors.md has a row for each (a test compares them).
// Callers branch on `code` and `retryable`, never on message text.

/** Stable error codes. Adding one means adding its row to docs/errors.md. */
export const ERROR_CODES = [
	'E_USAGE', // the command line is wrong
	'E_CONFIG', // the configuration is invalid
	'E_NOT_BUILT', // a configured feature does not exist in this version
	'E_PERMISSION', // root or a capability is missing
	'E_PLATFORM', // the kernel or the machine lacks something
	'E_NATIVE', // the native addon or a BPF object is missing or does not load
	'E_ABI_MISMATCH', // object, addon and generated code disagree about a layout
	'E_ATTACH', // the XDP program can't be attached
	'E_DATAPATH', // a map or program operation failed
	'E_LIMIT', // a fixed limit of the data plane is exceeded
	'E_SOURCE', // a registry can't be read
	'E_CONTROL', // the control socket can't be opened
	'E_DAEMON_UNREACHABLE', // nothing answers on the control socket
	'E_HOST', // a fact of the host (gateway, interface) can't be found or changed
	'E_DEMO', // the demo could not keep a promise
	'E_INTERNAL', // a bug
] as const;
export type ErrorCode = (typeof ERROR_CODES)[number];

/** Exit statuses: sysexits(3) where one fits. */
export const EXIT = {
	ok: 0,
	failed: 1,
	changesPending: 2,
	usage: 64,
	unreachable: 69,
	internal: 70,
	permission: 77,
	config: 78,
	interrupted: 130,
} as const;

const EXIT_OF: Partial<Record<ErrorCode, number>> = {
	E_USAGE: EXIT.usage,
	E_CONFIG: EXIT.config,
	E_NOT_BUILT: EXIT.config,
	E_PERMISSION: EXIT.permission,
	E_DAEMON_UNREACHABLE: EXIT.unreachable,
	E_INTERNAL: EXIT.internal,
};

export interface ErrorDetail {
	/** What is unchanged although this failed, e.g. "nothing was changed". */
	readonly unaffected?: string;
	/** A command or an edit that would mend it. */
	readonly hint?: string;
	readonly cause?: unknown;
	readonly retryable?: boolean;
}

/** An error with a stable code, a sentence for people and, where known, a mend. */
export class XdpilotError extends Error {
	readonly code: ErrorCode;
	readonly retryable: boolean;
	readonly unaffected: string | undefined;
	readonly hint: string | undefined;

	constructor(code: ErrorCode, message: string, detail: ErrorDetail = {}) {
		super(message, detail.cause === undefined ? undefined : { cause: detail.cause });
		this.name = 'XdpilotError';
		this.code = code;
		this.retryable = detail.retryable ?? false;
		this.unaffected = detail.unaffected;
		this.hint = detail.hint;
	}

	get exitStatus(): number {
		return EXIT_OF[this.code] ?? EXIT.failed;
	}
}

export function isXdpilotError(e: unknown): e is XdpilotError {
	return e instanceof XdpilotError;
}

/** A Node system error (from the addon, fs, net): `code` is an errno name. */
export function isSystemError(e: unknown): e is NodeJS.ErrnoException {
	return e instanceof Error && typeof (e as NodeJS.ErrnoException).code === 'string' && 'errno' in e;
}

/** The message of anything thrown. */
export function messageOf(e: unknown): string {
	return e instanceof Error ? e.message : String(e);
}
