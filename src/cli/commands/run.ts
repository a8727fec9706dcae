// SPDX-License-Identifier: Apache-2.0
// `xdpilot run`: the daemon, in the foreground. Logs to stderr; everything else is src/daemon.ts.
import { Command, Option } from 'commander';
import type { CliContext } from '../context.ts';
import { configOption } from '../options.ts';

interface RunOptions {
	readonly config: string;
	readonly detachOnExit?: true;
	readonly logLevel?: string;
}

export function runCommand(_context: CliContext): Command {
	return new Command('run')
		.description('the daemon, in the foreground')
		.addOption(configOption())
		.addOption(new Option('--detach-on-exit', 'stop forwarding as well when the daemon stops'))
		.addOption(new Option('--log-level <level>', 'instead of log.level').choices(['trace', 'debug', 'info', 'warn', 'error']))
		.addHelpText(
			'after',
			`
Stopping it (SIGTERM, Ctrl-C) leaves the data plane forwarding; the next start takes it over. To stop forwarding:
xdpilot detach. SIGHUP or \`xdpilot reload\` reads the configuration again.
Logs for people on a terminal, JSON otherwise.`,
		)
		.action(async (options: RunOptions) => {
			// Loaded here: no other command needs the registries' clients.
			const { runDaemon } = await import('../../daemon.ts');
			await runDaemon({ configFile: options.config, detachOnExit: options.detachOnExit === true, logLevel: options.logLevel });
		});
}
