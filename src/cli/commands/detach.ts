// SPDX-License-Identifier: Apache-2.0
// `xdpilot detach`: the one command that stops forwarding. Removes link, program, maps and pins; a running daemon
// holds a lock on them, and is left alone.
import { Command, Option } from 'commander';
import { loadConfig } from '../../config/load.ts';
import { detach } from '../../datapath/adopt.ts';
import { XdpilotError } from '../../errors.ts';
import { loadNative } from '../../native/binding.ts';
import type { CliContext } from '../context.ts';
import { DEFAULT_PIN_PATH, jsonOption } from '../options.ts';
import { listPinned, type Pinned } from '../pinned.ts';
import { printJson } from '../terminal.ts';

interface DetachOptions {
	readonly config?: string;
	readonly pinPath?: string;
	readonly interface?: string;
	readonly all?: true;
	readonly json?: true;
}

export function detachCommand(context: CliContext): Command {
	return new Command('detach')
		.description('stop forwarding: remove program, link, maps and pins of an instance')
		.addOption(new Option('-c, --config <file>', 'take pin path and interface from this configuration'))
		.addOption(new Option('-i, --interface <name>', 'the interface to detach from (default: the only one)'))
		.addOption(new Option('--all', 'detach from every interface'))
		.addOption(new Option('--pin-path <folder>', `where programs and maps are pinned (default: ${DEFAULT_PIN_PATH})`))
		.addOption(jsonOption())
		.addHelpText(
			'after',
			'\nStop the daemon first (systemctl stop xdpilot). Nothing to detach is no error.\n`xdpilot run` attaches again; flows start anew then.',
		)
		.action((options: DetachOptions) => detachAction(context, options));
}

async function detachAction(context: CliContext, options: DetachOptions): Promise<void> {
	const config = options.config === undefined ? undefined : loadConfig(options.config);
	const pinPath = options.pinPath ?? config?.datapath.pin_path ?? DEFAULT_PIN_PATH;
	const names = options.interface === undefined ? (config?.datapath.interfaces ?? []) : [options.interface];
	const chosen = choose(await listPinned(pinPath), pinPath, options.all ? [] : names, options.all === true);
	// Without anything to do the addon is not needed.
	const native = chosen.length === 0 ? undefined : loadNative();
	const done = chosen.filter(({ ifindex }) => native !== undefined && detach(native, pinPath, ifindex));
	if (options.json) {
		printJson(context, { schema: 'xdpilot.detach/v1', pin_path: pinPath, detached: done });
		return;
	}
	if (done.length === 0)
		context.stderr.write(`nothing is pinned under ${pinPath}${names.length > 0 && !options.all ? ` for ${names.join(', ')}` : ''}\n`);
	for (const instance of done) {
		const what = instance.attached ? 'stopped forwarding' : 'maps removed';
		context.stdout.write(`${instance.interface ?? `interface ${instance.ifindex}`}: ${what}; to start again: xdpilot run -c FILE\n`);
	}
}

/** @throws XdpilotError E_USAGE when it is not clear which is meant */
function choose(pinned: readonly Pinned[], pinPath: string, names: readonly string[], all: boolean): readonly Pinned[] {
	if (names.length > 0) return pinned.filter((instance) => names.includes(instance.interface ?? ''));
	if (all || pinned.length <= 1) return pinned;
	const list = pinned.map((instance) => instance.interface ?? `interface ${instance.ifindex} (not here)`).join(', ');
	throw new XdpilotError('E_USAGE', `${pinned.length} instances are pinned under ${pinPath}: ${list}`, {
		unaffected: 'nothing was changed',
		hint: 'name one with --interface, or give --all',
	});
}
