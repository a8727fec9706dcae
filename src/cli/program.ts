// SPDX-License-Identifier: Apache-2.0
// The command line as a whole: which verbs there are, how help looks, and how every failure becomes an exit status.
import { Command, CommanderError } from 'commander';
import { EXIT, XdpilotError } from '../errors.ts';
import { packageVersion } from '../version.ts';
import type { CliContext } from './context.ts';
import { errorJson, reportError } from './report-error.ts';
import { printJson, type Terminal } from './terminal.ts';

const EXAMPLES = `Examples:
  sudo xdpilot demo                                        watch it work, in a network of its own
  xdpilot check -c lb.yaml                                 all that is wrong with a configuration
  xdpilot plan -c lb.yaml                                  what would change; changes nothing
  sudo xdpilot run -c lb.yaml                              the daemon, in the foreground
  sudo xdpilot status                                      vips, pools, backends, sources
  sudo xdpilot why 192.0.2.7:40000 203.0.113.10:443/tcp    where this flow goes, and why
  xdpilot simulate -c lb.yaml --pcap-in in.pcap            frames through a private instance
  sudo xdpilot detach                                      take the data plane down
`;

type CreateCommand = (context: CliContext) => Command;

/** In the order of the help. Each is loaded when it is named: `status` need not wait for the registries' clients. */
const VERBS: Readonly<Record<string, () => Promise<CreateCommand>>> = {
	run: async () => (await import('./commands/run.ts')).runCommand,
	check: async () => (await import('./commands/check.ts')).checkCommand,
	plan: async () => (await import('./commands/plan.ts')).planCommand,
	status: async () => (await import('./commands/status.ts')).statusCommand,
	why: async () => (await import('./commands/why.ts')).whyCommand,
	simulate: async () => (await import('./commands/simulate.ts')).simulateCommand,
	reload: async () => (await import('./commands/reload.ts')).reloadCommand,
	detach: async () => (await import('./commands/detach.ts')).detachCommand,
	backend: async () => (await import('./commands/backend.ts')).backendCommand,
	demo: async () => (await import('./commands/demo.ts')).demoCommand,
};

/** Runs one command line. Never throws; resolves with the exit status. */
export async function runCli(argv: readonly string[], terminal: Terminal): Promise<number> {
	let status: number = EXIT.ok;
	const context: CliContext = {
		...terminal,
		exitWith: (code) => {
			status = code;
		},
	};
	try {
		const program = await createProgram(context, argv[0]);
		await program.parseAsync([...argv], { from: 'user' });
		return status;
	} catch (e) {
		if (e instanceof CommanderError && e.code === 'commander.help') return EXIT.usage;
		if (e instanceof CommanderError && e.exitCode === 0) return EXIT.ok;
		const error = asUsageError(e);
		if (argv.includes('--json')) printJson(terminal, { schema: 'xdpilot.error/v1', error: errorJson(error) });
		return reportError(error, terminal.stderr);
	}
}

/** With all verbs, or with one where its name is that of one. */
export async function createProgram(context: CliContext, verb = ''): Promise<Command> {
	const program = new Command('xdpilot');
	program
		.description('An XDP layer-4 load balancer that follows Consul, etcd or a file.')
		.version(packageVersion(), '-V, --version')
		.helpOption('-h, --help', 'show this')
		.helpCommand(false)
		.addHelpText('before', EXAMPLES)
		.addHelpText('after', '\nEach command has its own --help; those that print have --json. Configuration: docs/configuration.md')
		.exitOverride()
		.configureOutput({
			writeOut: (text) => context.stdout.write(text),
			writeErr: (text) => context.stderr.write(text),
			getOutHelpWidth: () => 120,
			getErrHelpWidth: () => 120,
			// A usage error is printed once, by reportError.
			outputError: () => undefined,
		});
	if (verb === '--version' || verb === '-V') return program;
	const wanted = Object.hasOwn(VERBS, verb) ? [VERBS[verb]] : Object.values(VERBS);
	for (const load of wanted) if (load) program.addCommand((await load())(context).copyInheritedSettings(program));
	return program;
}

/** Commander's errors in our form. */
function asUsageError(e: unknown): unknown {
	if (!(e instanceof CommanderError)) return e;
	const [first = '', ...rest] = e.message.replace(/^error: /, '').split('\n');
	const near = /Did you mean (.*)\?/.exec(rest.join(' '))?.[1];
	return new XdpilotError('E_USAGE', first, { hint: near === undefined ? 'xdpilot --help' : `did you mean ${near}?` });
}
