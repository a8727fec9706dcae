// SPDX-License-Identifier: Apache-2.0
// A network namespace with one veth pair for this test process, whose main thread moves into it: what attaches there
// can't meet the host's interfaces. Gone when the process ends, whatever way it does but SIGKILL.
import { execFileSync } from 'node:child_process';
import type { Interface } from '../../src/datapath/attach.ts';
import type { NativeAddon } from '../../src/native/binding.ts';

const IP_TIMEOUT_MS = 10_000;

export interface Veth {
	readonly namespace: string;
	readonly balancer: Interface;
	/** Another interface that nothing attaches to. */
	readonly router: Interface;
	/** Of both ends, in bytes. */
	setMtu(mtu: number): void;
	remove(): void;
}

function ip(...args: string[]): string {
	return execFileSync('ip', args, { encoding: 'utf8', timeout: IP_TIMEOUT_MS });
}

/** Why no namespace can be made here; undefined where it can. */
export function whyNoNamespace(): string | undefined {
	try {
		ip('netns', 'list');
		return undefined;
	} catch {
		return 'ip netns does not work here: iproute2 and CAP_SYS_ADMIN are needed';
	}
}

/** Makes the namespace and enters it. `name` tells apart the test files of one run. */
export function enterVeth(native: NativeAddon, name: string): Veth {
	const namespace = `xdpt-${name}-${process.pid}`;
	ip('netns', 'add', namespace);
	const remove = () => {
		process.removeListener('exit', remove);
		ip('netns', 'del', namespace);
	};
	process.on('exit', remove);
	// Not `ip -n`: that remounts /, which fails in a chroot.
	const inside = (...args: string[]) =>
		execFileSync('nsenter', [`--net=/run/netns/${namespace}`, 'ip', ...args], { encoding: 'utf8', timeout: IP_TIMEOUT_MS });
	inside('link', 'set', 'lo', 'up');
	inside('link', 'add', 'lb0', 'type', 'veth', 'peer', 'name', 'rt0');
	for (const device of ['lb0', 'rt0']) inside('link', 'set', device, 'up');
	const ifindexOf = (device: string) =>
		(JSON.parse(inside('-json', 'link', 'show', 'dev', device)) as { ifindex: number }[])[0]?.ifindex ?? 0;
	native.enterNetns(`/run/netns/${namespace}`);
	return {
		namespace,
		balancer: { name: 'lb0', ifindex: ifindexOf('lb0') },
		router: { name: 'rt0', ifindex: ifindexOf('rt0') },
		setMtu: (mtu) => {
			for (const device of ['lb0', 'rt0']) inside('link', 'set', device, 'mtu', String(mtu));
		},
		remove,
	};
}
