// SPDX-License-Identifier: Apache-2.0
// What a demo that has died, or was told to, left behind: namespaces, the processes in them, pins and files. Names carry
// the maker's pid; what a living maker has is not touched.
import { existsSync, readlinkSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { runCommand } from '../host/command.ts';
import { BPFFS_PATH } from '../host/preflight.ts';
import { NETNS_DIR, removeNetns } from './topology.ts';

/** Removes the networks of `prefix` whose maker is gone. Returns their names. */
export async function removeLeftovers(prefix: string): Promise<string[]> {
	const pattern = new RegExp(`^(${prefix}-(\\d+))(-\\w+)?$`);
	const places = [NETNS_DIR, BPFFS_PATH, tmpdir()];
	const names = (await Promise.all(places.map(entries))).flat();
	const ids = new Set<string>();
	for (const name of names) {
		const [, id, pid = ''] = pattern.exec(name) ?? [];
		if (id !== undefined && !isMakerAlive(pid)) ids.add(id);
	}
	for (const id of ids) await removeLeft(id);
	return [...ids];
}

async function removeLeft(id: string): Promise<void> {
	const namespaces = (await entries(NETNS_DIR)).filter((n) => n.startsWith(`${id}-`));
	for (const name of namespaces) {
		const pids = (await runCommand(['ip', 'netns', 'pids', name]).catch(() => '')).split('\n').filter((p) => p !== '');
		// One may have ended meanwhile.
		for (const pid of pids) await runCommand(['kill', '-KILL', pid]).catch(() => '');
	}
	await removeNetns(namespaces.map((n) => join(NETNS_DIR, n)));
	await rm(join(BPFFS_PATH, id), { recursive: true, force: true });
	const folders = (await entries(tmpdir())).filter((n) => n.startsWith(`${id}-`));
	for (const folder of folders) await rm(join(tmpdir(), folder), { recursive: true, force: true });
}

/** A pid comes back as another program's after a while; a maker runs under Node. */
function isMakerAlive(pid: string): boolean {
	try {
		return basename(readlinkSync(`/proc/${pid}/exe`)).startsWith('node');
	} catch {
		return false;
	}
}

async function entries(folder: string): Promise<string[]> {
	return existsSync(folder) ? readdir(folder) : [];
}
