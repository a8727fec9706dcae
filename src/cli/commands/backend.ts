// SPDX-License-Identifier: Apache-2.0
// `xdpilot backend`: makes this host a backend - decapsulation, vips on lo, ARP, rp_filter, MSS - or undoes exactly that.
import { Command, InvalidArgumentError, Option } from 'commander';
import { type AgentOptions, type AgentReport, BackendAgent } from '../../backend-agent/agent.ts';
import { BpfDecapsulator, DEFAULT_PIN_FOLDER, decapObjectPath, type XdpMode } from '../../backend-agent/decap.ts';
import { Follower } from '../../backend-agent/follow.ts';
import { StateFile } from '../../backend-agent/state.ts';
import { systemEnv } from '../../env.ts';
import { XdpilotError } from '../../errors.ts';
import { findInterface } from '../../host/interfaces.ts';
import { judgePreflight, readPreflightFacts, requirePreflight } from '../../host/preflight.ts';
import { type Address, parseAddress } from '../../model/address.ts';
import { loadNative } from '../../native/binding.ts';
import type { CliContext } from '../context.ts';
import { jsonOption } from '../options.ts';

interface Options {
	readonly interface: string;
	readonly vip?: readonly Address[];
	readonly mtu?: number;
	readonly overhead?: number;
	/** true = the default port. */
	readonly gue?: number | true;
	readonly mode: XdpMode | 'auto';
	readonly state?: string;
	readonly pinPath?: string;
	readonly once?: true;
	readonly detach?: true;
	readonly json?: true;
}

/** As `datapath.gue_port`. */
const GUE_PORT = 6080;

const EXAMPLES = `
Examples:
  xdpilot backend -i eth0 --vip 203.0.113.10,2001:db8::10     set up, then follow changes until stopped
  xdpilot backend -i eth0 --vip 203.0.113.10 --once           set up and leave
  xdpilot backend -i eth0 --vip 203.0.113.10 --gue            the balancer sends GUE
  xdpilot backend -i eth0 --detach                            undo exactly what was done

Stopping it leaves the backend serving. Run it again with other vips to change them.`;

export function backendCommand(context: CliContext): Command {
	return new Command('backend')
		.description('make this host a backend: decapsulate, hold the vips on lo, and set what ARP, rp_filter and MSS need')
		.requiredOption('-i, --interface <name>', 'interface that the load balancer sends to')
		.option('--vip <addresses>', 'vips to serve, separated by commas', parseVips)
		.option('--mtu <bytes>', "largest IP packet that the path from the balancer carries (default: the interface's MTU)", parseBytes)
		.option('--gue [port]', `unwrap GUE too, to this UDP port (default: ${GUE_PORT})`, parsePort)
		.option(
			'--overhead <bytes>',
			'bytes that encapsulation adds: 20 for IPv4 in IPv4, 40 with an IPv6 outer header, 8 more with GUE (default: 40, with --gue 48)',
			parseBytes,
		)
		.addOption(new Option('--mode <mode>', 'where XDP runs').choices(['auto', 'native', 'generic']).default('auto'))
		.option('--once', 'set up and leave, instead of following changes')
		.option('--detach', 'undo what this command did on this interface')
		.option('--state <file>', 'record of what was changed (default: /run/xdpilot/backend-<interface>.json)')
		.option('--pin-path <folder>', `pinned link of the program (default: ${DEFAULT_PIN_FOLDER}/<index>)`)
		.addOption(jsonOption())
		.addHelpText('after', EXAMPLES)
		.action((options: Options) => runBackend(context, options));
}

async function runBackend(context: CliContext, options: Options): Promise<void> {
	requirePreflight(judgePreflight(await readPreflightFacts()));
	const file = new StateFile(options.state ?? `/run/xdpilot/backend-${options.interface}.json`);
	if (options.detach) return detach(context, options, file);
	const vips = options.vip ?? [];
	if (vips.length === 0)
		throw new XdpilotError('E_USAGE', '--vip names no address', { hint: 'xdpilot backend -i eth0 --vip 203.0.113.10' });
	const pinPath = options.pinPath ?? `${DEFAULT_PIN_FOLDER}/${(await findInterface(options.interface)).index}`;
	const { interface: name, mode } = options;
	const guePort = options.gue === true ? GUE_PORT : (options.gue ?? null);
	const overhead = options.overhead ?? (guePort === null ? 40 : 48);
	const agentOptions: AgentOptions = { interface: name, vips, mtu: options.mtu ?? null, overhead, guePort, mode, pinPath };
	const agent = new BackendAgent(agentOptions, file, new BpfDecapsulator(loadNative(), decapObjectPath(), pinPath));
	print(context, options, await agent.setUp());
	if (options.once) return;
	await followUntilStopped(context, options, agent);
}

async function detach({ stdout, stderr }: CliContext, options: Options, file: StateFile): Promise<void> {
	const state = await file.read();
	if (state === undefined) {
		if (options.json) stdout.write(`${JSON.stringify({ interface: options.interface, undone: [] })}\n`);
		else stderr.write(`nothing to undo: there is no ${file.path}\n`);
		return;
	}
	const { pinPath, vips, interface: name } = state;
	const agent = new BackendAgent(
		{ interface: name, vips, mtu: null, overhead: 0, guePort: null, mode: 'auto', pinPath },
		file,
		new BpfDecapsulator(loadNative(), decapObjectPath(), pinPath),
	);
	const undone = await agent.detach();
	if (options.json) stdout.write(`${JSON.stringify({ interface: name, undone })}\n`);
	else for (const line of undone) stdout.write(`${line}\n`);
}

async function followUntilStopped(context: CliContext, options: Options, agent: BackendAgent): Promise<void> {
	const follower = new Follower({
		env: systemEnv,
		pass: async () => {
			const report = await agent.setUp();
			if (report.changes.length > 0) print(context, options, report);
		},
		onFailure: (reason) => context.stderr.write(`${options.interface}: ${reason}; trying again\n`),
	});
	await new Promise<void>((resolve) => {
		process.once('SIGTERM', resolve);
		process.once('SIGINT', resolve);
	});
	await follower.close();
	context.stderr.write(`stopped; ${options.interface} goes on serving. To undo: xdpilot backend -i ${options.interface} --detach\n`);
}

function print({ stdout, stderr }: CliContext, options: Options, report: AgentReport): void {
	if (options.json) {
		stdout.write(`${JSON.stringify(report)}\n`);
		return;
	}
	for (const change of report.changes) stdout.write(`${change}\n`);
	for (const note of report.notes) stderr.write(`note: ${note}\n`);
	const mss = [report.mss.ipv4, report.mss.ipv6].flatMap((m, i) => (m === null ? [] : [`IPv${i === 0 ? 4 : 6} ${m}`]));
	stdout.write(`${report.interface}: ready for ${report.vips.join(', ')} (XDP ${report.mode}, MSS ${mss.join(', ')})\n`);
}

function parseVips(text: string, previous: readonly Address[] = []): Address[] {
	const vips = text.split(',').map((t) => {
		const vip = parseAddress(t.trim());
		if (vip === undefined) throw new InvalidArgumentError(`${JSON.stringify(t)} is no IP address.`);
		return vip;
	});
	return [...new Set([...previous, ...vips])];
}

function parsePort(text: string): number {
	const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
	if (port < 1 || port > 65_535) throw new InvalidArgumentError('A port from 1 to 65535 is expected.');
	return port;
}

function parseBytes(text: string): number {
	if (!/^\d{1,5}$/.test(text)) throw new InvalidArgumentError('A number of bytes is expected.');
	return Number(text);
}
