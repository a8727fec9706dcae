// SPDX-License-Identifier: Apache-2.0
// What is pinned in bpffs, read from its folders alone: <pin path>/<ifindex>/. Needs neither daemon nor addon.
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { LINK_PINS } from '../datapath/pins.ts';
import { isSystemError, XdpilotError } from '../errors.ts';
import { listInterfaces } from '../host/interfaces.ts';

export interface Pinned {
	readonly ifindex: number;
	/** null when no interface here has that index: it is gone, or in another network namespace. */
	readonly interface: string | null;
	readonly path: string;
	/** Whether the link that keeps the program attached is pinned. */
	readonly attached: boolean;
}

/** @throws XdpilotError E_PERMISSION when the folder may not be read */
export async function listPinned(pinPath: string): Promise<Pinned[]> {
	const indexes = entriesOf(pinPath)
		.filter((name) => /^\d+$/.test(name))
		.map(Number)
		.sort((a, b) => a - b);
	const names = indexes.length === 0 ? new Map<number, string>() : await interfaceNames();
	return indexes.map((ifindex) => {
		const folder = path.join(pinPath, String(ifindex));
		const attached = Object.values(LINK_PINS).some((pin) => existsSync(path.join(folder, pin)));
		return { ifindex, interface: names.get(ifindex) ?? null, path: folder, attached };
	});
}

/** A line for each. */
export function describePinned(pinPath: string, pinned: readonly Pinned[]): string[] {
	if (pinned.length === 0) return [`nothing is pinned under ${pinPath}: no packet is forwarded`];
	return pinned.map(({ ifindex, interface: name, path: folder, attached }) => {
		const where = name ?? `interface ${ifindex} (not here)`;
		if (attached && name === null)
			return `${where} has a program pinned in ${folder}; it is gone or in another network namespace, so whether it forwards can't be told from here`;
		return attached
			? `${where} goes on forwarding with what was last written (pinned in ${folder}); backends that fail now are not noticed`
			: `${where} has maps pinned in ${folder}, but no attached program`;
	});
}

function entriesOf(folder: string): string[] {
	try {
		return readdirSync(folder);
	} catch (e) {
		if (isSystemError(e) && (e.code === 'ENOENT' || e.code === 'ENOTDIR')) return [];
		if (isSystemError(e) && e.code === 'EACCES') {
			throw new XdpilotError('E_PERMISSION', `no permission to read ${folder}`, { cause: e, hint: 'run it as root (sudo)' });
		}
		throw e;
	}
}

/** By index. Asked of the kernel, not of /sys, which may show another network namespace. */
async function interfaceNames(): Promise<Map<number, string>> {
	try {
		return new Map((await listInterfaces()).map(({ index, name }) => [index, name]));
	} catch {
		// A host without `ip` can't be a load balancer, but may well look what is pinned.
		return new Map();
	}
}
