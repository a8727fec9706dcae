// SPDX-License-Identifier: Apache-2.0
// `xdpilot simulate`: frames through a private instance of the XDP program, set up from a configuration. Asks nothing
// of the host: no interface, no address, no gateway, so that the same files give the same bytes on every machine.
import { readFileSync, writeFileSync } from 'node:fs';
import { Command, Option } from 'commander';
import { missingFeatures } from '../../config/features.ts';
import { loadConfig } from '../../config/load.ts';
import type { Config } from '../../config/schema.ts';
import { NOTHING_YET, readDesired } from '../../daemon/one-shot.ts';
import { datapathOptions } from '../../daemon/settings.ts';
import type { BpfDatapath } from '../../datapath/bpf-datapath.ts';
import { openPrivateDatapath } from '../../datapath/open.ts';
import type { DatapathOptions } from '../../datapath/options.ts';
import { type SimulatedFrame, Simulation } from '../../datapath/simulation.ts';
import { systemEnv } from '../../env.ts';
import { messageOf, XdpilotError } from '../../errors.ts';
import { type Logger, silentLogger } from '../../log.ts';
import { address } from '../../model/address.ts';
import { loadNative } from '../../native/binding.ts';
import { applyChanges } from '../../reconcile/apply.ts';
import type { Desired } from '../../reconcile/desired.ts';
import { planChanges } from '../../reconcile/plan.ts';
import { createSource } from '../../sources/create.ts';
import type { CliContext } from '../context.ts';
import { configOption } from '../options.ts';
import { type PcapFrame, readPcap, writePcap } from '../pcap.ts';
import { painter, printable } from '../terminal.ts';

interface SimulateOptions {
	readonly config: string;
	readonly pcapIn: string;
	readonly pcapOut?: string;
}

/** Stand in for facts of the host where the configuration says `auto`: locally administered, and of RFC 5737 and 3849. */
const SIMULATED_GATEWAY = Uint8Array.of(0x02, 0, 0, 0, 0, 0x01);
const SIMULATED_ADDRESSES = [address('192.0.2.1'), address('2001:db8::1')];
/** A capture holds few flows: what is kept of a live table's size is its kind, not its memory. */
const MAX_FLOW_ENTRIES = 1 << 20;
const READ_TIMEOUT_MS = 10_000;

export function simulateCommand(context: CliContext): Command {
	return new Command('simulate')
		.description('run the frames of a capture through a private instance of the XDP program')
		.addOption(configOption())
		.addOption(new Option('--pcap-in <file>', 'frames to run, in order (pcap, Ethernet)').makeOptionMandatory())
		.addOption(new Option('--pcap-out <file>', 'where to write the frames that would leave'))
		.addOption(new Option('--json', 'as always: one JSON object a frame'))
		.addHelpText(
			'after',
			`
Prints one JSON object a frame:
  {"frame":0,"verdict":"tx","out":"<base64 of the frame after the program>","vip":"203.0.113.10:443/tcp","backend":"10.0.0.1","reason":null}
verdict: tx, pass or drop. vip and backend: what the frame was counted for. reason: why it was dropped, or answered.

Frames share one flow table, as live ones do. Touches no interface and no live state; needs root, to load the program.
Uses no fact of this host: gateway_mac auto is 02:00:00:00:00:01, encap_source auto is 192.0.2.1 and 2001:db8::1.

Example:
  xdpilot simulate -c lb.yaml --pcap-in client.pcap --pcap-out fabric.pcap`,
		)
		.action((options: SimulateOptions) => simulate(context, options));
}

async function simulate(context: CliContext, { config: file, pcapIn, pcapOut }: SimulateOptions): Promise<void> {
	const config = loadConfig(file);
	warnOfMissing(context, config);
	const pcap = readPcap(readInput(pcapIn), pcapIn);
	const logger = silentLogger();
	const desired = await readSources(config, logger);
	const around = { native: loadNative(), env: systemEnv, log: logger };
	const datapath = await openPrivateDatapath(around, simulatedOptions(config));
	try {
		await setUp(datapath, desired);
		const sent = runFrames(context, datapath, pcap.frames);
		if (pcapOut !== undefined) writeOutput(pcapOut, writePcap({ isNano: pcap.isNano, frames: sent }));
	} finally {
		await datapath.close();
	}
}

/** Names on stderr what this version can't do of what is configured. */
function warnOfMissing(context: CliContext, config: Config): void {
	const paint = painter(context.stderr);
	for (const { key, why } of missingFeatures(config)) {
		context.stderr.write(`${paint('yellow', 'warning')}  ${printable(key)}: ${printable(why)} in this version\n`);
	}
}

function simulatedOptions(config: Config): DatapathOptions {
	const { gateway_mac: gateway } = config.datapath;
	const gatewayMac = gateway === 'auto' ? SIMULATED_GATEWAY : gateway;
	const options = datapathOptions(config, { own: [], interface: SIMULATED_ADDRESSES, gatewayMac });
	return { ...options, flowEntries: Math.min(options.flowEntries, MAX_FLOW_ENTRIES) };
}

async function readSources(config: Config, logger: Logger): Promise<Desired> {
	const sources = new Map([...config.sources].map(([name, source]) => [name, createSource(name, source, systemEnv, logger)]));
	const deadline = new AbortController();
	const timer = systemEnv.setTimer(READ_TIMEOUT_MS, () => deadline.abort(new Error(`no answer within ${READ_TIMEOUT_MS / 1000} s`)));
	try {
		const read = await readDesired({ config, sources, own: [], actual: NOTHING_YET, env: systemEnv, logger, signal: deadline.signal });
		const failed = read.pools.find((p) => p.error !== null);
		if (failed) throw new XdpilotError('E_SOURCE', `can't read the backends of pool ${failed.name}: ${failed.error}`);
		return read.desired;
	} finally {
		timer.cancel();
		await Promise.all([...sources.values()].map((s) => s.close()));
	}
}

async function setUp(datapath: BpfDatapath, desired: Desired): Promise<void> {
	const { failed, error } = await applyChanges(datapath, planChanges(desired, NOTHING_YET), systemEnv);
	for (const e of [...failed.values(), error]) if (e !== undefined && e !== null) throw e;
}

/** Prints what becomes of each frame; returns those that would leave. */
function runFrames(context: CliContext, datapath: BpfDatapath, frames: readonly PcapFrame[]): PcapFrame[] {
	const simulation = new Simulation(datapath);
	const sent: PcapFrame[] = [];
	for (const [frame, input] of frames.entries()) {
		const { verdict, out, vip, backend, reason } = runFrame(simulation, frame, input.bytes);
		context.stdout.write(`${JSON.stringify({ frame, verdict, out: Buffer.from(out).toString('base64'), vip, backend, reason })}\n`);
		if (verdict === 'tx') sent.push({ ...input, bytes: out });
	}
	return sent;
}

function runFrame(simulation: Simulation, frame: number, bytes: Uint8Array): SimulatedFrame {
	try {
		return simulation.run(bytes);
	} catch (e) {
		throw new XdpilotError('E_DATAPATH', `frame ${frame} (${bytes.length} bytes) can't be run: ${messageOf(e)}`, { cause: e });
	}
}

function readInput(path: string): Uint8Array {
	try {
		return readFileSync(path);
	} catch (e) {
		throw new XdpilotError('E_USAGE', `can't read ${path}: ${messageOf(e)}`, { cause: e });
	}
}

function writeOutput(path: string, data: Uint8Array): void {
	try {
		writeFileSync(path, data);
	} catch (e) {
		throw new XdpilotError('E_USAGE', `can't write ${path}: ${messageOf(e)}`, { cause: e });
	}
}
