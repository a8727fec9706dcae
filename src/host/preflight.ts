// SPDX-License-Identifier: Apache-2.0
// What this machine must have before anything is loaded: kernel, privileges, BTF, bpffs. Each missing item is one
// line that says what is missing and how to get it. Reading changes nothing; mounting bpffs is a call of its own.
import { readFile, statfs } from 'node:fs/promises';
import { release } from 'node:os';
import { XdpilotError } from '../errors.ts';
import { runCommand } from './command.ts';

export type PreflightId = 'kernel' | 'privileges' | 'btf' | 'bpffs';

export interface PreflightItem {
	readonly id: PreflightId;
	readonly ok: boolean;
	/** What is there, or what is missing. */
	readonly what: string;
	/** How to mend it; empty when ok. */
	readonly mend: string;
}

/** The facts that the verdicts rest on. */
export interface PreflightFacts {
	/** As uname -r. */
	readonly kernelRelease: string;
	/** Effective capabilities, a bit each. */
	readonly capabilities: bigint;
	readonly hasBtf: boolean;
	readonly hasBpffs: boolean;
	readonly isRoot: boolean;
}

export const BPFFS_PATH = '/sys/fs/bpf';
const BPFFS_MAGIC = 0xcafe4a11;
const BTF_PATH = '/sys/kernel/btf/vmlinux';
/** linux/capability.h */
const CAP_NET_ADMIN = 12n;
const CAP_SYS_ADMIN = 21n;
const CAP_BPF = 39n;
const KERNEL_FLOOR = [6, 1] as const;

/** Reads the facts of this machine. Never throws: what can't be read counts as absent. */
export async function readPreflightFacts(): Promise<PreflightFacts> {
	const status = await readFile('/proc/self/status', 'utf8').catch(() => '');
	const hex = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0';
	return {
		kernelRelease: release(),
		capabilities: BigInt(`0x${hex}`),
		hasBtf: await statfs(BTF_PATH).then(
			() => true,
			() => false,
		),
		hasBpffs: await isBpffs(BPFFS_PATH),
		isRoot: process.geteuid?.() === 0,
	};
}

/** Judges the facts; one item each, in a fixed order. */
export function judgePreflight(facts: PreflightFacts): PreflightItem[] {
	return [judgeKernel(facts), judgePrivileges(facts), judgeBtf(facts), judgeBpffs(facts)];
}

/** For the demo: making network namespaces takes more than XDP does. */
export function judgeNamespaces({ capabilities }: PreflightFacts): PreflightItem {
	const ok = ((capabilities >> CAP_SYS_ADMIN) & 1n) === 1n;
	return {
		id: 'privileges',
		ok,
		what: ok ? 'CAP_SYS_ADMIN' : 'CAP_SYS_ADMIN missing, without which no network namespace can be made',
		mend: ok ? '' : 'run it as root, outside of containers or in a privileged one',
	};
}

/** @throws XdpilotError E_PERMISSION or E_PLATFORM with a line for every failing item */
export function requirePreflight(items: readonly PreflightItem[]): void {
	const failing = items.filter((i) => !i.ok);
	if (failing.length === 0) return;
	const onlyPrivileges = failing.every((i) => i.id === 'privileges');
	throw new XdpilotError(onlyPrivileges ? 'E_PERMISSION' : 'E_PLATFORM', failing.map((i) => i.what).join('; '), {
		unaffected: 'nothing was changed',
		hint: failing.map((i) => i.mend).join('; '),
	});
}

/** Whether a BPF file system is mounted at `path`. */
export async function isBpffs(path: string): Promise<boolean> {
	try {
		// f_type is a signed long on some architectures.
		return (await statfs(path)).type >>> 0 === BPFFS_MAGIC;
	} catch {
		return false;
	}
}

/** Mounts bpffs at its usual place. @throws XdpilotError E_HOST */
export async function mountBpffs(): Promise<void> {
	await runCommand(['mount', '-t', 'bpf', 'bpf', BPFFS_PATH, '-o', 'mode=0700']);
}

function judgeKernel({ kernelRelease }: PreflightFacts): PreflightItem {
	const [major = 0, minor = 0] = kernelRelease.split(/[.-]/).map(Number);
	const ok = major > KERNEL_FLOOR[0] || (major === KERNEL_FLOOR[0] && minor >= KERNEL_FLOOR[1]);
	const floor = KERNEL_FLOOR.join('.');
	return {
		id: 'kernel',
		ok,
		what: ok ? `kernel ${kernelRelease}` : `kernel ${kernelRelease} is older than ${floor}`,
		mend: ok ? '' : `boot Linux ${floor} or later (Debian 12 has it)`,
	};
}

function judgePrivileges({ capabilities, isRoot }: PreflightFacts): PreflightItem {
	const has = (bit: bigint) => ((capabilities >> bit) & 1n) === 1n;
	const missing = [...(has(CAP_BPF) || has(CAP_SYS_ADMIN) ? [] : ['CAP_BPF']), ...(has(CAP_NET_ADMIN) ? [] : ['CAP_NET_ADMIN'])];
	if (missing.length === 0) return { id: 'privileges', ok: true, what: 'CAP_BPF and CAP_NET_ADMIN', mend: '' };
	const mend = isRoot ? 'this is a container without them: start it with --cap-add for each, or use the host' : 'run it with sudo';
	return { id: 'privileges', ok: false, what: `${missing.join(' and ')} missing`, mend };
}

function judgeBtf({ hasBtf }: PreflightFacts): PreflightItem {
	return {
		id: 'btf',
		ok: hasBtf,
		what: hasBtf ? 'kernel BTF' : `the kernel has no BTF (${BTF_PATH})`,
		mend: hasBtf ? '' : 'boot a kernel with CONFIG_DEBUG_INFO_BTF=y, as the distributions build it',
	};
}

function judgeBpffs({ hasBpffs }: PreflightFacts): PreflightItem {
	return {
		id: 'bpffs',
		ok: hasBpffs,
		what: hasBpffs ? `bpffs at ${BPFFS_PATH}` : `no BPF file system is mounted at ${BPFFS_PATH}`,
		mend: hasBpffs ? '' : `mount -t bpf bpf ${BPFFS_PATH}`,
	};
}
