// SPDX-License-Identifier: Apache-2.0
// `xdpilot status`: what the daemon has, for people or as JSON. Without a daemon it says what is pinned, because
// that goes on forwarding.
import { Command, Option } from 'commander';
import { EXIT, isXdpilotError } from '../../errors.ts';
import { requestControl } from '../../observe/control-client.ts';
import type { StatusReport } from '../../observe/report.ts';
import type { CliContext } from '../context.ts';
import { jsonOption, pinPathOption, socketOption } from '../options.ts';
import { describePinned, listPinned } from '../pinned.ts';
import { errorJson, reportError } from '../report-error.ts';
import { renderStatus } from '../status-text.ts';
import { painter, printJson } from '../terminal.ts';

interface StatusOptions {
	readonly socket: string;
	readonly pinPath: string;
	readonly json?: boolean;
	readonly all?: boolean;
}

export function statusCommand(context: CliContext): Command {
	return new Command('status')
		.description('vips, pools, backends and their states, sources and their ages, holds')
		.addOption(socketOption())
		.addOption(pinPathOption())
		.addOption(new Option('--all', 'on a terminal: every backend, however many there are'))
		.addOption(jsonOption())
		.addHelpText('after', '\nExit status: 0 the daemon answered (whatever it said), 69 no daemon; what is pinned is listed then.')
		.action((options: StatusOptions) => status(context, options));
}

async function status(context: CliContext, options: StatusOptions): Promise<void> {
	try {
		const report = (await requestControl({ socket: options.socket, method: 'GET', path: '/status' })) as StatusReport;
		if (options.json) return printJson(context, report);
		const limit = context.stdout.isTTY === true && !options.all ? 40 : Number.POSITIVE_INFINITY;
		context.stdout.write(`${renderStatus(report, painter(context.stdout), limit).join('\n')}\n`);
	} catch (e) {
		if (!isXdpilotError(e) || e.code !== 'E_DAEMON_UNREACHABLE') throw e;
		const pinned = await listPinned(options.pinPath);
		if (options.json) printJson(context, { schema: 'xdpilot.pinned/v1', error: errorJson(e), pin_path: options.pinPath, pinned });
		reportError(e, context.stderr);
		if (!options.json) context.stdout.write(`${describePinned(options.pinPath, pinned).join('\n')}\n`);
		context.exitWith(EXIT.unreachable);
	}
}
