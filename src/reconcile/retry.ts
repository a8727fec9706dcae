// SPDX-License-Identifier: Apache-2.0
// When a failed write is tried again. The error itself says whether soon makes sense; the rest is tried rarely,
// since what it lacks (ids, memory, a privilege) may come back without anybody telling.
import type { Env } from '../env.ts';
import { isSystemError, isXdpilotError } from '../errors.ts';

const FIRST_MS = 100;
const SOON_MAX_MS = 10_000;
const RARELY_MS = 30_000;
const PASSING: ReadonlySet<string> = new Set(['EAGAIN', 'EBUSY', 'EINTR', 'ENOMEM', 'ENOBUFS']);

export function isRetryable(error: unknown): boolean {
	if (isXdpilotError(error)) return error.retryable || (error.cause !== undefined && isRetryable(error.cause));
	return isSystemError(error) && PASSING.has(error.code ?? '');
}

/** Milliseconds until the next try after `attempts` failures in a row: full jitter, so that a fleet doesn't try in step. */
export function retryDelay(env: Env, error: unknown, attempts: number): number {
	if (!isRetryable(error)) return RARELY_MS;
	return env.random() * Math.min(SOON_MAX_MS, FIRST_MS * 2 ** attempts);
}
