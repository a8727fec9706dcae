// SPDX-License-Identifier: Apache-2.0
// Attaches a program to an interface by a bpf_link, in the driver where it can. Never replaces a program that is not
// ours: a busy interface is refused with the number of the program that holds it.
import { execFileSync } from 'node:child_process';
import { type Env, sleep } from '../env.ts';
import { isSystemError, messageOf, XdpilotError } from '../errors.ts';
import type { BpfLink, BpfProgram } from '../native/addon.d.ts';
import type { NativeAddon } from '../native/binding.ts';
import { kernelError } from './kernel-error.ts';
import type { EntryPoint } from './loader.ts';
import type { LinkMode } from './pins.ts';

/** linux/if_link.h */
const XDP_FLAGS: Readonly<Record<LinkMode, number>> = { generic: 1 << 1, native: 1 << 2 };
const IP_TIMEOUT_MS = 5000;
const BUSY_ATTEMPTS = 20;
const BUSY_PAUSE_MS = 50;

export interface Interface {
	readonly name: string;
	readonly ifindex: number;
}

export interface Attached {
	readonly link: BpfLink;
	readonly mode: LinkMode;
	readonly program: BpfProgram;
}

interface Attempt {
	readonly mode: LinkMode;
	readonly entry: EntryPoint;
}

/** In order of preference: plain buffers, then frames of several buffers (large MTUs), then without the driver. */
const ATTEMPTS: Readonly<Record<'native' | 'generic' | 'auto', readonly Attempt[]>> = {
	native: [
		{ mode: 'native', entry: 'lb' },
		{ mode: 'native', entry: 'lb_frags' },
	],
	generic: [{ mode: 'generic', entry: 'lb' }],
	auto: [
		{ mode: 'native', entry: 'lb' },
		{ mode: 'native', entry: 'lb_frags' },
		{ mode: 'generic', entry: 'lb' },
	],
};

/**
 * Attaches the first entry point that the interface takes. `load` makes the program of an entry point.
 * @throws XdpilotError E_ATTACH
 */
export async function attach(
	native: NativeAddon,
	env: Env,
	on: Interface,
	mode: 'native' | 'generic' | 'auto',
	load: (entry: EntryPoint) => BpfProgram,
): Promise<Attached> {
	const failures: string[] = [];
	const programs = new Map<EntryPoint, BpfProgram>();
	for (const attempt of ATTEMPTS[mode]) {
		const program = programs.get(attempt.entry) ?? load(attempt.entry);
		programs.set(attempt.entry, program);
		try {
			const link = await createLink(native, env, on, program, XDP_FLAGS[attempt.mode]);
			for (const other of programs.values()) if (other !== program) other.close();
			return { link, mode: attempt.mode, program };
		} catch (e) {
			if (isOccupied(e) || (isSystemError(e) && e.code === 'EPERM')) {
				for (const made of programs.values()) made.close();
				throw isOccupied(e) ? busy(on, e) : kernelError(`attach to ${on.name}`, e);
			}
			failures.push(`${attempt.mode}${attempt.entry === 'lb_frags' ? ' with several buffers' : ''}: ${messageOf(e)}`);
		}
	}
	for (const program of programs.values()) program.close();
	throw new XdpilotError('E_ATTACH', `${on.name} takes no XDP program (${failures.join('; ')})`, {
		unaffected: 'nothing is attached',
		hint: mode === 'native' ? 'set datapath.mode to auto, or lower the MTU' : `ip -details link show ${on.name} tells its kind and MTU`,
	});
}

/** The kernel takes a link off some time after its pin was removed: a busy interface is asked again for a while. */
async function createLink(native: NativeAddon, env: Env, on: Interface, program: BpfProgram, flags: number): Promise<BpfLink> {
	for (let attempt = 1; ; attempt++) {
		try {
			return native.BpfLink.attachXdp(program, on.ifindex, flags);
		} catch (e) {
			if (!isOccupied(e) || attempt === BUSY_ATTEMPTS) throw e;
			await sleep(env, BUSY_PAUSE_MS);
		}
	}
}

/** EEXIST: a program is attached in the other mode. */
function isOccupied(e: unknown): boolean {
	return isSystemError(e) && (e.code === 'EBUSY' || e.code === 'EEXIST');
}

function busy(on: Interface, cause: unknown): XdpilotError {
	const id = attachedProgram(on.name);
	return new XdpilotError('E_ATTACH', `${on.name} has an XDP program already${id === undefined ? '' : `: program ${id}`}`, {
		cause,
		unaffected: 'it was not replaced',
		hint: id === undefined ? `see: ip link show dev ${on.name}` : `see: bpftool prog show id ${id}`,
	});
}

/** The number of the XDP program on an interface, as ip(8) shows it. */
function attachedProgram(name: string): number | undefined {
	try {
		const text = execFileSync('ip', ['-json', 'link', 'show', 'dev', name], { encoding: 'utf8', timeout: IP_TIMEOUT_MS });
		const [link] = JSON.parse(text) as { xdp?: { prog?: { id?: number }; attached?: { prog?: { id?: number } }[] } }[];
		return link?.xdp?.prog?.id ?? link?.xdp?.attached?.[0]?.prog?.id;
	} catch {
		// Only the message gets poorer.
		return undefined;
	}
}
