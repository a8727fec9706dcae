// SPDX-License-Identifier: Apache-2.0
// `xdpilot reload`: makes the daemon read its configuration again and waits for its verdict, so that
// `systemctl reload` fails when the new configuration is refused.
import { Command } from 'commander';
import { requestControl } from '../../observe/control-client.ts';
import type { ReloadReport } from '../../observe/control-server.ts';
import type { CliContext } from '../context.ts';
import { jsonOption, secondsOption, socketOption } from '../options.ts';
import { printable, printJson } from '../terminal.ts';

interface ReloadOptions {
	readonly socket: string;
	readonly json?: boolean;
	readonly timeout: number;
}

export function reloadCommand(context: CliContext): Command {
	return new Command('reload')
		.description('make the daemon read its configuration again, and wait for its verdict')
		.addOption(socketOption())
		.addOption(secondsOption('--timeout <seconds>', 'how long to wait', 30))
		.addOption(jsonOption())
		.addHelpText('after', '\nA configuration with a mistake is refused as a whole; the daemon keeps the one it has.')
		.action((options: ReloadOptions) => reload(context, options));
}

async function reload(context: CliContext, { socket, json, timeout }: ReloadOptions): Promise<void> {
	const timeoutMs = timeout * 1000;
	const report = (await requestControl({ socket, method: 'POST', path: '/reload', timeoutMs })) as ReloadReport;
	if (json) return printJson(context, report);
	if (report.changes.length === 0) context.stdout.write('the configuration is unchanged\n');
	for (const change of report.changes) context.stdout.write(`${printable(change)}\n`);
	for (const key of report.at_next_start) context.stdout.write(`${printable(key)} takes effect at the next start\n`);
}
