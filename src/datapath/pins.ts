// SPDX-License-Identifier: Apache-2.0
// The folder in bpffs that keeps an instance forwarding without its daemon: <pin_path>/<ifindex>/, mode 0700, holding
// every map, the program and the link. One daemon at a time: the folder itself is locked. Names hold no dot, which
// bpffs refuses.
import { closeSync, existsSync, fstatSync, mkdirSync, openSync, readdirSync, renameSync, rmdirSync, statfsSync, unlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { XdpilotError } from '../errors.ts';
import type { NativeAddon } from '../native/binding.ts';
import { MAPS, type MapName } from './abi.gen.ts';
import { kernelCall } from './kernel-error.ts';

/** linux/magic.h */
const BPF_FS_MAGIC = 0xcafe4a11;
const OWNER_ONLY = 0o700;

export const MAP_NAMES = Object.keys(MAPS) as MapName[];
export type LinkMode = 'native' | 'generic';
/** Names of pins that are no maps. The link's name says in which mode it attached, since the kernel doesn't. */
export const PROGRAM_PIN = 'program';
export const NEXT_PROGRAM_PIN = 'program_next';
export const LINK_PINS: Readonly<Record<LinkMode, string>> = { native: 'link_native', generic: 'link_generic' };

export function instancePath(pinPath: string, ifindex: number): string {
	return join(pinPath, String(ifindex));
}

/** An open and locked instance folder. */
export class PinFolder {
	readonly path: string;
	readonly #fd: number;

	private constructor(path: string, fd: number) {
		this.path = path;
		this.#fd = fd;
	}

	/**
	 * Makes the folder if missing, and locks it.
	 * @throws XdpilotError E_PLATFORM when it is not in bpffs, E_PERMISSION when it is somebody else's,
	 * E_DATAPATH when another process holds it
	 */
	static open(native: NativeAddon, pinPath: string, ifindex: number): PinFolder {
		const path = instancePath(pinPath, ifindex);
		kernelCall(`make the folder ${path}`, () => mkdirSync(path, { recursive: true, mode: OWNER_ONLY }));
		requireBpffs(path);
		requireOwner(dirname(path));
		const fd = kernelCall(`open ${path}`, () => openSync(path, 'r'));
		try {
			const owner = fstatSync(fd);
			if (owner.uid !== process.getuid?.() || (owner.mode & 0o077) !== 0) {
				throw new XdpilotError('E_PERMISSION', `${path} belongs to user ${owner.uid} with mode ${(owner.mode & 0o777).toString(8)}`, {
					hint: 'pins are used only from a folder that nobody else can write: set datapath.pin_path to another one',
				});
			}
			if (!kernelCall(`lock ${path}`, () => native.tryLock(fd))) {
				throw new XdpilotError('E_DATAPATH', `another xdpilot runs on ${path}`, {
					unaffected: 'it goes on undisturbed',
					hint: 'stop it first, or give this one another interface',
				});
			}
			return new PinFolder(path, fd);
		} catch (e) {
			closeSync(fd);
			throw e;
		}
	}

	pin(name: string): string {
		return join(this.path, name);
	}

	has(name: string): boolean {
		return existsSync(this.pin(name));
	}

	/** Puts the pin `from` in the place of `to`, atomically. */
	rename(from: string, to: string): void {
		kernelCall(`rename pin ${from}`, () => renameSync(this.pin(from), this.pin(to)));
	}

	remove(name: string): void {
		removePin(this.pin(name));
	}

	/** Which link is pinned. */
	get linkMode(): LinkMode | undefined {
		return (['native', 'generic'] as const).find((mode) => this.has(LINK_PINS[mode]));
	}

	/** Removes every pin; the link first, so that nothing runs on maps that go away. */
	clear(): void {
		clearFolder(this.path);
	}

	/** Unlocks; the pins stay. */
	close(): void {
		closeSync(this.#fd);
	}
}

/** Removes all pins of a folder; the link first. */
export function clearFolder(path: string): void {
	const names = readdirSync(path);
	const isLink = (name: string) => name.startsWith('link_');
	for (const name of [...names.filter(isLink), ...names.filter((n) => !isLink(n))]) removePin(join(path, name));
}

/** Removes the emptied instance folder, and its parent when that was the last. */
export function removeFolder(path: string): void {
	for (const folder of [path, dirname(path)]) {
		try {
			rmdirSync(folder);
		} catch {
			// Not empty, or gone: either way there is nothing to do.
			return;
		}
	}
}

function removePin(path: string): void {
	if (existsSync(path)) kernelCall(`remove pin ${path}`, () => unlinkSync(path));
}

function requireBpffs(path: string): void {
	if (statfsSync(path).type === BPF_FS_MAGIC) return;
	removeFolder(path);
	throw new XdpilotError('E_PLATFORM', `${path} is not in a BPF file system`, {
		hint: 'mount one: mount -t bpf bpf /sys/fs/bpf, or set datapath.pin_path to a folder in one',
	});
}

/** Somebody who can write the parent could swap the folder. */
function requireOwner(parent: string): void {
	const fd = kernelCall(`open ${parent}`, () => openSync(parent, 'r'));
	const owner = fstatSync(fd);
	closeSync(fd);
	const sticky = (owner.mode & 0o1000) !== 0;
	const trusted = owner.uid === process.getuid?.() || owner.uid === 0;
	if (trusted && (sticky || (owner.mode & 0o022) === 0)) return;
	throw new XdpilotError('E_PERMISSION', `${parent} can be written by others`, { hint: `chmod 0700 ${parent}` });
}
