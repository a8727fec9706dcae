// SPDX-License-Identifier: Apache-2.0
// The control socket's place in the file system. It appears there complete: bound and given its owner and mode in a
// private folder beside it, then renamed, so that nobody can connect before the mode is right, and a stale socket is
// replaced in one step. What is not ours is never touched.
import { chmodSync, chownSync, lstatSync, mkdirSync, mkdtempSync, renameSync, rmSync, type Stats, statSync, unlinkSync } from 'node:fs';
import { connect, type Server } from 'node:net';
import path from 'node:path';
import { isSystemError, messageOf, XdpilotError } from '../errors.ts';

const UNAFFECTED = { unaffected: 'nothing was changed' } as const;

/** Makes `server` listen at `file`, mode 0660, owned by this user and `gid`. @throws XdpilotError E_CONTROL, E_PERMISSION */
export async function listenAt(server: Server, file: string, gid: number): Promise<void> {
	try {
		prepareFolder(path.dirname(file), gid);
		await refuseIfTaken(file);
		const staging = mkdtempSync(path.join(path.dirname(file), '.s-'));
		try {
			const bound = path.join(staging, 's');
			await listen(server, bound);
			chownSync(bound, process.geteuid?.() ?? 0, gid);
			chmodSync(bound, 0o660);
			renameSync(bound, file);
		} finally {
			rmSync(staging, { recursive: true, force: true });
		}
	} catch (e) {
		server.close();
		throw asControlError(e, file);
	}
}

/** Removes the socket at `file` if it is still the one whose inode is given. */
export function removeSocket(file: string, inode: bigint): void {
	try {
		if (lstatSync(file, { bigint: true }).ino === inode) unlinkSync(file);
	} catch {
		// Gone already, or its folder is: systemd removes RuntimeDirectory= itself.
	}
}

export function inodeOf(file: string): bigint {
	return lstatSync(file, { bigint: true }).ino;
}

/** The folder exists and strangers can't swap what lies in it. */
function prepareFolder(folder: string, gid: number): void {
	const existing = statOf(() => statSync(folder));
	if (existing === undefined) {
		mkdirSync(folder, { recursive: true, mode: 0o750 });
		chownSync(folder, process.geteuid?.() ?? 0, gid);
		chmodSync(folder, 0o750);
		return;
	}
	const isOpen = (existing.mode & 0o002) !== 0 && (existing.mode & 0o1000) === 0;
	if (!existing.isDirectory()) throw new XdpilotError('E_CONTROL', `${folder} is not a folder`, UNAFFECTED);
	if (isOpen) throw new XdpilotError('E_CONTROL', `${folder} may be written by everyone`, { ...UNAFFECTED, hint: `chmod o-w ${folder}` });
}

async function refuseIfTaken(file: string): Promise<void> {
	const found = statOf(() => lstatSync(file));
	if (found === undefined) return;
	const kind = found.isSymbolicLink() ? 'a symbolic link' : found.isSocket() ? undefined : 'no socket';
	if (kind !== undefined) {
		throw new XdpilotError('E_CONTROL', `${file} is ${kind}`, { ...UNAFFECTED, hint: 'remove it, or set control.socket to another path' });
	}
	if (found.uid !== (process.geteuid?.() ?? 0) && found.uid !== 0) {
		throw new XdpilotError('E_CONTROL', `${file} belongs to another user (uid ${found.uid})`, UNAFFECTED);
	}
	if (await answers(file)) {
		throw new XdpilotError('E_CONTROL', `another daemon answers on ${file}`, {
			...UNAFFECTED,
			hint: `xdpilot status --socket ${file}     shows it; two daemons need two sockets (control.socket) and two interfaces`,
		});
	}
}

/** Whether a process listens there. A stale socket refuses at once. */
function answers(file: string): Promise<boolean> {
	return new Promise((resolve, reject) => {
		const probe = connect(file);
		probe.once('connect', () => {
			probe.destroy();
			resolve(true);
		});
		probe.once('error', (e: NodeJS.ErrnoException) => {
			// EAGAIN: its backlog is full, so somebody listens.
			if (e.code === 'ECONNREFUSED' || e.code === 'ENOENT') resolve(false);
			else if (e.code === 'EAGAIN') resolve(true);
			else reject(e);
		});
	});
}

function listen(server: Server, file: string): Promise<void> {
	return new Promise((resolve, reject) => {
		server.once('error', reject);
		server.listen(file, () => {
			server.removeListener('error', reject);
			resolve();
		});
	});
}

function statOf(stat: () => Stats): Stats | undefined {
	try {
		return stat();
	} catch (e) {
		if (isSystemError(e) && e.code === 'ENOENT') return undefined;
		throw e;
	}
}

function asControlError(e: unknown, file: string): XdpilotError {
	if (e instanceof XdpilotError) return e;
	const denied = isSystemError(e) && (e.code === 'EACCES' || e.code === 'EPERM');
	return new XdpilotError(denied ? 'E_PERMISSION' : 'E_CONTROL', `can't open the control socket ${file}: ${messageOf(e)}`, {
		...UNAFFECTED,
		cause: e,
	});
}
