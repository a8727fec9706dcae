// SPDX-License-Identifier: Apache-2.0
// Holds this process on one CPU while something is timed, so that no migration lands between two samples.
import { spawnSync } from 'node:child_process';
import { cpus } from 'node:os';

/** Runs `fn` on the last CPU; where taskset is missing, on any, and says so in `where`. */
export async function pinned<T>(fn: (where: string) => Promise<T>): Promise<T> {
	const last = cpus().length - 1;
	const set = (list: string) => spawnSync('taskset', ['-acp', list, String(process.pid)], { stdio: 'ignore' }).status === 0;
	if (!set(String(last))) return fn('not pinned to a CPU: taskset is missing');
	try {
		return await fn(`pinned to CPU ${last}`);
	} finally {
		set(`0-${last}`);
	}
}
