// SPDX-License-Identifier: Apache-2.0
// Runs the program `xdpilot` as a process, in a network namespace or as another user, until it ends.
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { inNetns } from '../../src/host/command.ts';

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
/** Absolute: another user's working folder need not be the checkout. */
const TSX = import.meta.resolve('tsx');

export interface ProcessResult {
	readonly status: number | null;
	readonly stdout: string;
	readonly stderr: string;
}

/** Ends it after a minute. */
export function xdpilot(
	args: readonly string[],
	where: { readonly netns?: string; readonly uid?: number; readonly gid?: number } = {},
): Promise<ProcessResult> {
	const [file, ...rest] = inNetns([process.execPath, '--import', TSX, MAIN, ...args], where.netns);
	const { uid, gid } = where;
	const user = uid === undefined || gid === undefined ? {} : { uid, gid };
	return new Promise((resolve) => {
		const options = { timeout: 60_000, encoding: 'utf8', env: { ...process.env, NO_COLOR: '1' }, cwd: '/', ...user } as const;
		const child = execFile(file, rest, options, (_error, stdout, stderr) => resolve({ status: child.exitCode, stdout, stderr }));
	});
}
