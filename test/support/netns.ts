// SPDX-License-Identifier: Apache-2.0
// Two network namespaces joined by a cable: `host` with eth0, and `next` with the gateway. For tests of what a command
// does to a host. Removed at the end of the test, and when the process ends before.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import type { TestContext } from 'node:test';
import { BPFFS_PATH } from '../../src/host/preflight.ts';

const COMMAND_MS = 10_000;

export interface Cable {
	/** Path of the namespace that has eth0: 10.66.0.2/24, fd66::2/64. */
	readonly host: string;
	/** Path of the namespace that has gw0: 10.66.0.1/24, fd66::1/64. */
	readonly next: string;
	/** Folder in bpffs for pins. */
	readonly pinPath: string;
	/** Runs ip(8) in a namespace; words are separated by spaces. */
	ip(netns: string, command: string): string;
	/** Contents of a file below /proc as seen from a namespace. */
	proc(netns: string, path: string): string;
	/** Plugs eth0 in again after it was removed. */
	plugIn(): void;
}

export function makeCable(t: TestContext, label: string): Cable {
	const id = `xdpt-${label}-${process.pid}`;
	const [host, next] = [`/run/netns/${id}-host`, `/run/netns/${id}-next`];
	const pinPath = `${BPFFS_PATH}/${id}`;
	const remove = () => {
		process.removeListener('exit', remove);
		for (const path of [host, next]) if (existsSync(path)) run(['ip', 'netns', 'delete', nameOf(path)]);
		rmSync(pinPath, { recursive: true, force: true });
	};
	process.on('exit', remove);
	t.after(remove);
	for (const path of [host, next]) {
		run(['ip', 'netns', 'add', nameOf(path)]);
		for (const which of ['all', 'default']) inside(path, ['tee', `/proc/sys/net/ipv6/conf/${which}/accept_dad`], '0');
		ipIn(path, 'link set lo up');
	}
	const plugIn = () => {
		ipIn(host, `link add name eth0 type veth peer name gw0 netns ${nameOf(next)}`);
		for (const command of ['address add 10.66.0.1/24 dev gw0', 'address add fd66::1/64 dev gw0 nodad', 'link set gw0 up'])
			ipIn(next, command);
		for (const command of ['address add 10.66.0.2/24 dev eth0', 'address add fd66::2/64 dev eth0 nodad', 'link set eth0 up']) {
			ipIn(host, command);
		}
	};
	plugIn();
	return { host, next, pinPath, ip: ipIn, proc: (netns, path) => inside(netns, ['cat', path]).trim(), plugIn };
}

/** Everything in a namespace that a backend changes, as text that can be compared. */
export function hostSettings(cable: Cable): string {
	const conf = ['all/arp_ignore', 'all/arp_announce', 'all/rp_filter', 'eth0/rp_filter'];
	return [
		cable.ip(cable.host, '-4 route show default'),
		// The lifetime of an advertised route runs on.
		cable.ip(cable.host, '-6 route show default').replace(/expires \d+sec/g, 'expires'),
		cable.ip(cable.host, 'address show dev lo'),
		cable.ip(cable.host, 'link show dev eth0').match(/\bxdp\w*/)?.[0] ?? 'no xdp',
		...conf.map((f) => `${f} ${cable.proc(cable.host, `/proc/sys/net/ipv4/conf/${f}`)}`),
	].join('\n');
}

function ipIn(netns: string, command: string): string {
	return inside(netns, ['ip', ...command.split(' ')]);
}

function inside(netns: string, argv: readonly string[], input = ''): string {
	return run(['nsenter', `--net=${netns}`, '--', ...argv], input);
}

function run(argv: readonly string[], input = ''): string {
	const [file = '', ...args] = argv;
	return execFileSync(file, args, { encoding: 'utf8', timeout: COMMAND_MS, input, stdio: ['pipe', 'pipe', 'pipe'] });
}

function nameOf(netns: string): string {
	return netns.slice('/run/netns/'.length);
}

/** A file's contents, or '' while there is none. */
export function readIfThere(path: string): string {
	return existsSync(path) ? readFileSync(path, 'utf8') : '';
}
