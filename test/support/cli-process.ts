// SPDX-License-Identifier: Apache-2.0
// Runs the program `xdpilot` as a process, in a network namespace or as another user, until it ends.
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type Argv, inNetns } from '../../src/host/command.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

export interface ProcessResult {
	readonly status: number | null;
	readonly stdout: string;
	readonly stderr: string;
}

/** The program, in a checkout at `root`; the working folder is another. */
function program(root: string, args: readonly string[]): Argv {
	return [process.execPath, '--import', `file://${root}/node_modules/tsx/dist/loader.mjs`, `${root}/src/main.ts`, ...args];
}

/**
 * The words that run it as somebody else. The checkout may lie in a folder that only its owner can enter: that user sees it
 * mounted elsewhere, in a mount namespace that ends with the process.
 */
function asUser(uid: number, gid: number, args: readonly string[]): Argv {
	const place = '/mnt';
	const script = `mount --make-rprivate / && mount --bind '${ROOT}' ${place} && exec setpriv --reuid ${uid} --regid ${gid} --clear-groups "$@"`;
	return ['unshare', '--mount', 'sh', '-c', script, 'sh', ...program(place, args)];
}

/** Ends it after a minute. */
export function xdpilot(
	args: readonly string[],
	where: { readonly netns?: string; readonly uid?: number; readonly gid?: number } = {},
): Promise<ProcessResult> {
	const { uid, gid } = where;
	const command = uid === undefined || gid === undefined ? program(ROOT, args) : asUser(uid, gid, args);
	const [file, ...rest] = inNetns(command, where.netns);
	return new Promise((resolve) => {
		const options = { timeout: 60_000, encoding: 'utf8', env: { ...process.env, NO_COLOR: '1' }, cwd: '/' } as const;
		const child = execFile(file, rest, options, (_error, stdout, stderr) => resolve({ status: child.exitCode, stdout, stderr }));
	});
}
