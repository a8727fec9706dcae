// SPDX-License-Identifier: Apache-2.0
// Errno to XdpilotError: the one place where a failed system call gets a sentence and a mend.
import { type ErrorCode, isSystemError, isXdpilotError, messageOf, XdpilotError } from '../errors.ts';

const RETRYABLE = new Set(['EAGAIN', 'EBUSY', 'EINTR', 'ENOMEM']);
const PERMISSION = new Set(['EPERM', 'EACCES']);

/** Wraps what a system call threw. `doing` says what was tried, e.g. "swap 3 rings in". */
export function kernelError(doing: string, cause: unknown, code: ErrorCode = 'E_DATAPATH'): XdpilotError {
	if (isXdpilotError(cause)) return cause;
	const errno = isSystemError(cause) ? (cause.code ?? '') : '';
	if (PERMISSION.has(errno)) {
		const hint = 'run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON';
		return new XdpilotError('E_PERMISSION', `can't ${doing}: ${messageOf(cause)}`, { cause, hint });
	}
	return new XdpilotError(code, `can't ${doing}: ${messageOf(cause)}`, { cause, retryable: RETRYABLE.has(errno) });
}

/** Runs `work`, wrapping what it throws. */
export function kernelCall<T>(doing: string, work: () => T, code?: ErrorCode): T {
	try {
		return work();
	} catch (e) {
		throw kernelError(doing, e, code);
	}
}
