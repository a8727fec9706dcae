// SPDX-License-Identifier: Apache-2.0
// `xdpilot demo`: the whole thing working, in network namespaces of its own.
import { Command, Option } from 'commander';
import { type DemoOptions, runDemo } from '../../demo/demo.ts';
import { removeLeftovers } from '../../demo/leftovers.ts';
import { DEMO_PREFIX } from '../../demo/network.ts';
import { findRegistryProgram } from '../../demo/registry/find-program.ts';
import type { RegistryKind } from '../../demo/registry/registry.ts';
import { Screen, type Sink } from '../../demo/screen.ts';
import { systemEnv } from '../../env.ts';
import { EXIT, XdpilotError } from '../../errors.ts';
import {
	BPFFS_PATH,
	isBpffs,
	judgeNamespaces,
	judgePreflight,
	mountBpffs,
	readPreflightFacts,
	requirePreflight,
} from '../../host/preflight.ts';
import { loadNative } from '../../native/binding.ts';
import type { CliContext } from '../context.ts';
import { jsonOption } from '../options.ts';
import { painter, printJson } from '../terminal.ts';

interface Options {
	readonly source: RegistryKind;
	readonly json?: true;
	readonly keep?: true;
	readonly clean?: true;
}

const SILENT: Sink = { write: () => true };

export function demoCommand(context: CliContext): Command {
	return new Command('demo')
		.description('watch it work: real traffic in a network of its own, while backends join, leave and die')
		.addOption(
			new Option('--source <kind>', 'where backends come from; etcd falls back to a file where there is none')
				.choices(['etcd', 'consul', 'file'])
				.default('etcd'),
		)
		.option('--keep', 'leave the network up in the end, and say how to look around')
		.option('--clean', 'take away what a demo with --keep left, and do nothing else')
		.addOption(jsonOption())
		.addHelpText('after', '\nTakes half a minute and touches no real interface. Exit status: 0 all promises kept, 1 one was broken.')
		.action((options: Options) => demo(context, options));
}

async function demo(context: CliContext, options: Options): Promise<void> {
	await requireMachine();
	if (options.clean) return clean(context);
	const out = options.json ? SILENT : context.stdout;
	const screen = new Screen(out, painter(out));
	const interruption = new AbortController();
	const interrupt = () => interruption.abort(new XdpilotError('E_DEMO', 'interrupted'));
	for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, interrupt);
	try {
		const figures = await runDemo({
			...chooseRegistry(options.source),
			env: systemEnv,
			native: loadNative(),
			screen,
			signal: interruption.signal,
			keep: options.keep === true,
		});
		if (options.json) printJson(context, figures);
		if (!figures.kept) {
			const broken = figures.promises.filter((p) => !p.kept).map((p) => `${p.promise}: ${p.found}`);
			if (options.json) context.exitWith(EXIT.failed);
			else throw new XdpilotError('E_DEMO', `promises were broken: ${broken.join('; ')}`);
		}
	} catch (e) {
		if (!interruption.signal.aborted) throw e;
		context.stderr.write('interrupted; everything that the demo made has been removed\n');
		context.exitWith(EXIT.interrupted);
	} finally {
		for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.off(signal, interrupt);
	}
}

async function requireMachine(): Promise<void> {
	const facts = await readPreflightFacts();
	const canMount = facts.isRoot && !facts.hasBpffs;
	const items = judgePreflight({ ...facts, hasBpffs: facts.hasBpffs || canMount });
	// One line is enough where all privileges are missing.
	requirePreflight(items.every((i) => i.ok) ? [judgeNamespaces(facts)] : items);
	if (canMount) await mountBpffs();
	if (!(await isBpffs(BPFFS_PATH))) throw new XdpilotError('E_PLATFORM', `no BPF file system at ${BPFFS_PATH}`);
}

async function clean({ stdout }: CliContext): Promise<void> {
	const removed = await removeLeftovers(DEMO_PREFIX);
	stdout.write(removed.length === 0 ? 'there was nothing to take away\n' : `removed ${removed.join(', ')}\n`);
}

function chooseRegistry(wanted: RegistryKind): Pick<DemoOptions, 'registry' | 'program' | 'fallback'> {
	if (wanted === 'file') return { registry: 'file', program: undefined, fallback: null };
	const program = findRegistryProgram(wanted);
	if (program !== undefined) return { registry: wanted, program, fallback: null };
	if (wanted === 'etcd') return { registry: 'file', program: undefined, fallback: 'there is no etcd on the PATH or in ETCD_BIN' };
	throw new XdpilotError('E_PLATFORM', 'there is no consul on the PATH or in CONSUL_BIN', {
		hint: 'node scripts/fetch-consul.mjs     or xdpilot demo --source etcd',
	});
}
