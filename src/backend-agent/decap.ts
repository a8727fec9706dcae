// SPDX-License-Identifier: Apache-2.0
// The decapsulating program on one interface: attached by a link that is pinned, so that it stays when this process
// ends, and replaced without a gap when the object at hand is another. Knows nothing of vips, routes or settings.
import { existsSync } from 'node:fs';
import { mkdir, rm, rmdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isSystemError, messageOf, XdpilotError } from '../errors.ts';
import { runJson } from '../host/command.ts';
import { BPFFS_PATH } from '../host/preflight.ts';
import { type Address, mappedBytes } from '../model/address.ts';
import type { BpfLink, BpfProgram } from '../native/addon.d.ts';
import type { NativeAddon } from '../native/binding.ts';

export type XdpMode = 'native' | 'generic';

export interface Attached {
	readonly mode: XdpMode;
	/** What attach() did; null when the program was there already. */
	readonly changed: string | null;
}

export interface AttachRequest {
	readonly ifindex: number;
	/** Bytes of an IP packet. */
	readonly mtu: number;
	readonly mode: XdpMode | 'auto';
	/** Only tunnel packets for these are unwrapped. */
	readonly vips: readonly Address[];
	/** UDP port of GUE; null = GUE is not unwrapped. */
	readonly guePort: number | null;
}

export interface Decapsulator {
	/** @throws XdpilotError E_ATTACH or E_NATIVE */
	attach(request: AttachRequest): Promise<Attached>;
	/** false = nothing was attached */
	detach(): Promise<boolean>;
}

/** linux/if_link.h */
const XDP_FLAGS: Readonly<Record<XdpMode, number>> = { generic: 2, native: 4 };
/** XDP_ATTACHED_SKB; every other mode runs in the driver. */
const ATTACHED_GENERIC = 2;
/** What drivers answer that have no XDP, or none for this MTU or number of queues. */
const NO_NATIVE = new Set(['EOPNOTSUPP', 'ENOTSUP', 'EINVAL', 'ERANGE', 'ENOSPC', 'ENOSYS']);
/** Longer packets come in fragments, for which the kernel wants a program that says it can take them. */
const LINEAR_MTU = 3498;

/** Holds a folder for each interface, where no other place is named. */
export const DEFAULT_PIN_FOLDER = `${BPFFS_PATH}/xdpilot-backend`;

/** The object built by bpf/Makefile, from a checkout as well as from a build. */
export function decapObjectPath(): string {
	return fileURLToPath(new URL('../../build/bpf/decap.bpf.o', import.meta.url));
}

export class BpfDecapsulator implements Decapsulator {
	readonly #native: NativeAddon;
	readonly #objectPath: string;
	readonly #pinPath: string;
	/** Loaded by the first pass of this process, for what it was asked for. */
	#loaded:
		| { readonly program: BpfProgram; readonly vips: readonly Address[]; readonly guePort: number | null; readonly section: string }
		| undefined;

	constructor(native: NativeAddon, objectPath: string, pinPath: string) {
		this.#native = native;
		this.#objectPath = objectPath;
		this.#pinPath = pinPath;
	}

	async attach(request: AttachRequest): Promise<Attached> {
		const program = this.#load(request);
		const link = this.#pinnedLink();
		if (link !== undefined) {
			try {
				const attached = await this.#adopt(link, program, request.ifindex);
				if (attached !== undefined) return attached;
			} finally {
				link.close();
			}
			// The interface it was made for has gone; the pin holds an empty shell.
			await this.#unpin();
		}
		const made = this.#attachNew(program, request.ifindex, request.mode);
		await mkdir(this.#pinPath, { recursive: true, mode: 0o700 });
		made.link.pin(`${this.#pinPath}/link`);
		made.link.close();
		return { mode: made.mode, changed: `decapsulating (XDP ${made.mode}), pinned at ${this.#pinPath}` };
	}

	async detach(): Promise<boolean> {
		const had = existsSync(`${this.#pinPath}/link`);
		await this.#unpin();
		return had;
	}

	/** Keeps a link that is on the right interface, with this program on it; undefined when it is on none. */
	async #adopt(link: BpfLink, program: BpfProgram, ifindex: number): Promise<Attached | undefined> {
		const info = link.info();
		if (info.ifindex !== ifindex) return undefined;
		const mode = await attachedMode(ifindex);
		const { id, tag } = program.info();
		if (info.programId === id) return { mode, changed: null };
		const isSameCode = (await attachedTag(ifindex)) === tag;
		// An earlier run's program can't be told about other vips: ours, with a map of its own, takes its place in one step.
		link.update(program);
		return { mode, changed: isSameCode ? null : 'the decapsulating program was replaced' };
	}

	#load({ mtu, vips, guePort }: AttachRequest): BpfProgram {
		const section = mtu > LINEAR_MTU ? 'xdp.frags' : 'xdp';
		const known = this.#loaded;
		if (known !== undefined && known.section === section && known.guePort === guePort && sameList(known.vips, vips)) return known.program;
		if (!existsSync(this.#objectPath)) {
			throw new XdpilotError('E_NATIVE', `the BPF object is not at ${this.#objectPath}`, { hint: 'build it: npm run setup' });
		}
		const object = this.#native.BpfObject.open(this.#objectPath);
		try {
			const wanted = object.programs.find((p) => p.section === section);
			if (wanted === undefined) throw new XdpilotError('E_NATIVE', `${this.#objectPath} has no program in section ${section}`);
			for (const p of object.programs) object.setAutoload(p.name, p.name === wanted.name);
			// The one constant of the object, in network byte order.
			const constants = object.rodata();
			new DataView(constants.buffer, constants.byteOffset).setUint16(0, guePort ?? 0);
			object.load();
			const map = object.map('decap_vips');
			for (const vip of vips) map.update(mappedBytes(vip), new Uint8Array(4));
			map.close();
			known?.program.close();
			this.#loaded = { program: object.program(wanted.name), vips, guePort, section };
			return this.#loaded.program;
		} catch (cause) {
			if (cause instanceof XdpilotError) throw cause;
			throw new XdpilotError('E_NATIVE', `the decapsulating program does not load: ${messageOf(cause)}`, { cause });
		} finally {
			object.close();
		}
	}

	#attachNew(program: BpfProgram, ifindex: number, mode: XdpMode | 'auto'): { link: BpfLink; mode: XdpMode } {
		try {
			const first: XdpMode = mode === 'auto' ? 'native' : mode;
			return { link: this.#native.BpfLink.attachXdp(program, ifindex, XDP_FLAGS[first]), mode: first };
		} catch (cause) {
			const code = isSystemError(cause) ? (cause.code ?? '') : '';
			if (mode === 'auto' && NO_NATIVE.has(code)) return this.#attachNew(program, ifindex, 'generic');
			throw new XdpilotError('E_ATTACH', `can't attach the decapsulating program: ${messageOf(cause)}`, {
				hint: code === 'EBUSY' ? 'another XDP program is on this interface: see bpftool net' : 'try --mode generic',
				cause,
			});
		}
	}

	#pinnedLink(): BpfLink | undefined {
		const path = `${this.#pinPath}/link`;
		return existsSync(path) ? this.#native.BpfLink.open(path) : undefined;
	}

	async #unpin(): Promise<void> {
		await rm(this.#pinPath, { recursive: true, force: true });
		const parent = dirname(this.#pinPath);
		// Other interfaces may have theirs there.
		if (parent === DEFAULT_PIN_FOLDER) await rmdir(parent).catch(() => {});
	}
}

function sameList(a: readonly Address[], b: readonly Address[]): boolean {
	return a.length === b.length && a.every((x, i) => x === b[i]);
}

/** The members of `ip -j link` that are read here. */
interface XdpOfLink {
	ifindex?: number;
	xdp?: { mode?: number; prog?: { tag?: string } };
}

async function xdpOf(ifindex: number): Promise<XdpOfLink['xdp']> {
	const rows = (await runJson(['ip', '-j', '-d', 'link', 'show'])) as XdpOfLink[];
	return rows.find((r) => r.ifindex === ifindex)?.xdp;
}

async function attachedMode(ifindex: number): Promise<XdpMode> {
	return (await xdpOf(ifindex))?.mode === ATTACHED_GENERIC ? 'generic' : 'native';
}

async function attachedTag(ifindex: number): Promise<string | undefined> {
	return (await xdpOf(ifindex))?.prog?.tag;
}
