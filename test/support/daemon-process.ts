// SPDX-License-Identifier: Apache-2.0
// The real daemon in a network namespace of its own: a veth whose other end plays the gateway, a configuration and
// a services file in a temporary folder, a control socket, pins in a folder of its own. Everything goes at the end.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Flow } from '../../src/datapath/datapath.ts';
import { inNetns, runCommand } from '../../src/host/command.ts';
import type { Address } from '../../src/model/address.ts';
import { loadNative } from '../../src/native/binding.ts';
import { requestControl } from '../../src/observe/control-client.ts';
import type { ReloadReport } from '../../src/observe/control-server.ts';
import type { StatusReport } from '../../src/observe/report.ts';
import { destination, packetOf } from './datapath-subject.ts';
import { until } from './server-process.ts';

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
const XDP_TX = 3;
const XDP_ACTION = ['aborted', 'drop', 'pass', 'tx', 'redirect'] as const;

/** Loaded in a moment, in little memory. */
const SMALL = 'ring_size: 1009, max_backends_per_pool: 64, max_pools: 32, max_backends: 256, max_vips: 32, expected_flows: 10000';

export const GATEWAY_MAC = '02:00:00:00:07:01';

/** A namespace with `eth0` (10.88.0.2/24) and the gateway (10.88.0.1) at the other end of its cable. */
export class DaemonBox {
	readonly folder: string;
	readonly name: string;
	readonly pinPath: string;
	readonly socket: string;
	readonly configFile: string;
	readonly servicesFile: string;
	readonly #running = new Set<DaemonProcess>();
	#ifindex = 0;

	private constructor(label: string) {
		this.name = `xdpd-${label}-${process.pid}`;
		this.folder = mkdtempSync(path.join(tmpdir(), `${this.name}-`));
		this.pinPath = `/sys/fs/bpf/${this.name}`;
		this.socket = path.join(this.folder, 'run', 'control.sock');
		this.configFile = path.join(this.folder, 'lb.yaml');
		this.servicesFile = path.join(this.folder, 'services.yaml');
	}

	static async create(label: string): Promise<DaemonBox> {
		const box = new DaemonBox(label);
		try {
			await box.#build();
			return box;
		} catch (e) {
			await box.remove();
			throw e;
		}
	}

	get netns(): string {
		return `/run/netns/${this.name}`;
	}

	/** Writes the configuration: `rest` is all but `datapath` and `control`, `datapath` further keys of that. */
	configure(rest: string, datapath = '', limits = SMALL): void {
		writeFileSync(
			this.configFile,
			`datapath: { interface: eth0, pin_path: ${this.pinPath}, ${limits}${datapath} }
control: { socket: ${this.socket} }
${rest}
`,
		);
	}

	/** Writes the services file: service -> addresses. */
	serve(services: Readonly<Record<string, readonly string[]>>): void {
		const rows = Object.entries(services).map(([name, all]) => `  ${name}: [${all.map((a) => `{ address: ${a} }`).join(', ')}]`);
		writeFileSync(this.servicesFile, `services:\n${rows.join('\n')}\n`);
	}

	start(...args: string[]): DaemonProcess {
		const daemon = new DaemonProcess(this.netns, ['run', '-c', this.configFile, ...args]);
		this.#running.add(daemon);
		return daemon;
	}

	/** @throws XdpilotError E_DAEMON_UNREACHABLE */
	async status(): Promise<StatusReport> {
		return (await requestControl({ socket: this.socket, method: 'GET', path: '/status' })) as StatusReport;
	}

	async reload(): Promise<ReloadReport> {
		return (await requestControl({ socket: this.socket, method: 'POST', path: '/reload' })) as ReloadReport;
	}

	/** Waits until `status` says so; nobody answering counts as no. */
	async until(what: string, condition: (status: StatusReport) => boolean): Promise<StatusReport> {
		let last: StatusReport | undefined;
		await until(what, async () => {
			last = await this.status().catch(() => undefined);
			return last !== undefined && condition(last);
		}).catch((e: unknown) => {
			const lines = [...this.#running].flatMap((d) => d.lines.slice(-10));
			throw new Error(`${e instanceof Error ? e.message : e}\n${JSON.stringify(last, null, 1)}\n${lines.join('\n')}`);
		});
		if (last === undefined) throw new Error('no status');
		return last;
	}

	/** Waits until exactly these backends of a pool are in its ring, and all vips are served. */
	async untilActive(pool: string, ...addresses: string[]): Promise<StatusReport> {
		// Slots are unknown while a ring is being written: its backends are not in it before that is confirmed.
		const inRing = (s: StatusReport) => {
			const backends = s.pools.find((p) => p.name === pool)?.backends;
			return backends?.every((b) => b.slots !== null) ? backends.filter((b) => (b.slots ?? 0) > 0) : undefined;
		};
		const isServed = (s: StatusReport) => s.vips.some((v) => v.pool === pool);
		return this.until(
			`pool ${pool} serves ${addresses}`,
			(s) =>
				inRing(s)
					?.map((b) => b.address)
					.join() === addresses.join() && isServed(s),
		);
	}

	/** What the pinned program, whoever made it, does with one packet now, and the MAC that it sends to. */
	forward(flow: Flow): { readonly to: Address | 'pass' | 'drop'; readonly mac: string } {
		const program = loadNative().BpfProgram.open(`${this.pinPath}/${this.#ifindex}/program`);
		try {
			const { verdict, out } = program.testRun(packetOf(flow));
			const mac = Buffer.from(out.subarray(0, 6))
				.toString('hex')
				.replace(/(..)(?!$)/g, '$1:');
			return { to: destination({ verdict: XDP_ACTION[verdict] ?? 'aborted', out }), mac: verdict === XDP_TX ? mac : '' };
		} finally {
			program.close();
		}
	}

	/** Number of the XDP program on eth0; undefined when there is none. */
	async attachedProgram(): Promise<number | undefined> {
		const [link] = JSON.parse(await this.ip('-j', 'link', 'show', 'dev', 'eth0')) as { xdp?: { prog?: { id?: number } } }[];
		return link?.xdp?.prog?.id;
	}

	ip(...args: string[]): Promise<string> {
		return runCommand(['ip', ...args], { netns: this.netns });
	}

	async remove(): Promise<void> {
		await Promise.all([...this.#running].map((d) => d.kill()));
		await runCommand(['ip', 'netns', 'delete', this.name]).catch(() => '');
		await runCommand(['ip', 'netns', 'delete', `${this.name}-gw`]).catch(() => '');
		rmSync(this.pinPath, { recursive: true, force: true });
		rmSync(this.folder, { recursive: true, force: true });
	}

	async #build(): Promise<void> {
		const gateway = `${this.name}-gw`;
		for (const ns of [this.name, gateway]) await runCommand(['ip', 'netns', 'add', ns]);
		const lines = [`link add eth0 netns ${this.name} type veth peer name eth0 netns ${gateway}`];
		await runCommand(['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
		const inside = (mine: string, mac: string) =>
			`link set lo up\nlink set eth0 address ${mac}\naddress add ${mine}/24 dev eth0\nlink set eth0 up\n`;
		await runCommand(['ip', '-batch', '-'], { netns: `/run/netns/${gateway}`, input: inside('10.88.0.1', GATEWAY_MAC) });
		await runCommand(['ip', '-batch', '-'], {
			netns: this.netns,
			input: `${inside('10.88.0.2', '02:00:00:00:07:02')}route add default via 10.88.0.1\n`,
		});
		const [link] = JSON.parse(await this.ip('-j', 'link', 'show', 'dev', 'eth0')) as { ifindex: number }[];
		this.#ifindex = link?.ifindex ?? 0;
	}
}

/** One run of the daemon. */
export class DaemonProcess {
	/** Its log, a line each. */
	readonly lines: string[] = [];
	readonly #child: ChildProcess;
	readonly #ended: Promise<unknown>;
	readonly #onExit = () => this.#child.kill('SIGKILL');

	constructor(netns: string, args: readonly string[]) {
		const [file, ...rest] = inNetns([process.execPath, '--import', 'tsx', MAIN, ...args], netns);
		this.#child = spawn(file, rest, { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, NOTIFY_SOCKET: '' } });
		process.on('exit', this.#onExit);
		this.#ended = once(this.#child, 'close').finally(() => process.off('exit', this.#onExit));
		let text = '';
		this.#child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
			const all = (text + chunk).split('\n');
			text = all.pop() ?? '';
			this.lines.push(...all);
		});
	}

	signal(signal: NodeJS.Signals): void {
		this.#child.kill(signal);
	}

	/** Its exit status, or the signal that ended it; kills it when that takes more than 20 s. */
	async end(): Promise<number | NodeJS.Signals | null> {
		const deadline = setTimeout(() => this.#child.kill('SIGKILL'), 20_000);
		await this.#ended;
		clearTimeout(deadline);
		return this.#child.exitCode ?? this.#child.signalCode;
	}

	/** As a crash would. */
	async kill(): Promise<void> {
		this.#child.kill('SIGKILL');
		await this.#ended;
	}

	async untilLogged(pattern: RegExp): Promise<string> {
		await until(`the log says ${pattern}`, () => this.lines.some((l) => pattern.test(l))).catch((e: unknown) => {
			throw new Error(`${e instanceof Error ? e.message : e}\n${this.lines.join('\n')}`);
		});
		return this.lines.find((l) => pattern.test(l)) ?? '';
	}
}
