// SPDX-License-Identifier: Apache-2.0
// Runs the program `xdpilot` as a process, in a network namespace or as another user, until it ends.
import { execFile } from 'node:child_process';
import { statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Argv, inNetns } from '../../src/host/command.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
/** Where else it can be seen. */
const PLACE = '/mnt';

export interface ProcessResult {
	readonly status: number | null;
	readonly stdout: string;
	readonly stderr: string;
}

/** The program, in a checkout at `root`; the working folder is another. */
function program(root: string, args: readonly string[]): Argv {
	return [process.execPath, '--import', `file://${root}/node_modules/tsx/dist/loader.mjs`, `${root}/src/main.ts`, ...args];
}

/** Whether everybody can enter the checkout. */
function isReachable(): boolean {
	for (let folder = path.resolve(ROOT); folder !== '/'; folder = path.dirname(folder)) {
		if ((statSync(folder).mode & 0o001) === 0) return false;
	}
	return true;
}

/**
 * The words that run it as somebody else. A checkout in a folder that only its owner can enter is mounted elsewhere for that
 * user, in a mount namespace that ends with the process. (Not always: in a chroot / is no mount point that could be made private.)
 */
function asUser(uid: number, gid: number, args: readonly string[]): Argv {
	const become = ['setpriv', '--reuid', `${uid}`, '--regid', `${gid}`, '--clear-groups'] as const;
	if (isReachable()) return [...become, ...program(ROOT, args)];
	const script = `mount --make-rprivate / && mount --bind '${ROOT}' ${PLACE} && exec "$@"`;
	return ['unshare', '--mount', 'sh', '-c', script, 'sh', ...become, ...program(PLACE, args)];
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
