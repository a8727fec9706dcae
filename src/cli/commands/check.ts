// SPDX-License-Identifier: Apache-2.0
// `xdpilot check`: the daemon's own parser, for people, editors and CI. Reads the file, and the files of file sources.
import { Command } from 'commander';
import { ConfigError } from '../../config/config-error.ts';
import { missingFeatures } from '../../config/features.ts';
import { loadConfig } from '../../config/load.ts';
import type { Config } from '../../config/schema.ts';
import { EXIT } from '../../errors.ts';
import type { CliContext } from '../context.ts';
import { configOption, jsonOption } from '../options.ts';
import { errorJson, reportError } from '../report-error.ts';
import { type Advice, serviceFileAdvice } from '../service-files.ts';
import { painter, printable, printJson } from '../terminal.ts';

interface CheckOptions {
	readonly config: string;
	readonly json?: boolean;
}

export function checkCommand(context: CliContext): Command {
	return new Command('check')
		.description('say all that is wrong with a configuration, or "ok"')
		.addOption(configOption())
		.addOption(jsonOption())
		.addHelpText(
			'after',
			'\nExit status: 0 ok, 78 the configuration is invalid.\n\nExample:\n  xdpilot check -c lb.yaml && systemctl reload xdpilot',
		)
		.action((options: CheckOptions) => check(context, options));
}

async function check(context: CliContext, { config: file, json }: CheckOptions): Promise<void> {
	try {
		const config = loadConfig(file);
		const missing = missingFeatures(config).map(({ key, why }) => ({ key, why: `${why} in this version, so run refuses this file` }));
		const warnings = [...missing, ...(await serviceFileAdvice(config))];
		if (json) printJson(context, { schema: 'xdpilot.check/v1', ok: true, file, ...countsOf(config), warnings, issues: [] });
		else printOk(context, file, config, warnings);
	} catch (e) {
		if (!json) {
			context.exitWith(reportError(e, context.stderr));
			return;
		}
		const issues = e instanceof ConfigError ? e.issues : [];
		printJson(context, { schema: 'xdpilot.check/v1', ok: false, file, issues, error: errorJson(e) });
		context.exitWith(EXIT.config);
	}
}

function countsOf({ datapath, sources, pools, vips }: Config) {
	return { interfaces: datapath.interfaces, sources: sources.size, pools: pools.size, vips: vips.length };
}

function printOk(context: CliContext, file: string, config: Config, warnings: readonly Advice[]): void {
	const paint = painter(context.stdout);
	const { interfaces, sources, pools, vips } = countsOf(config);
	const where = interfaces.length === 0 ? 'no interface (run needs datapath.interface)' : interfaces.join(', ');
	context.stdout.write(
		`${paint('green', 'ok')}  ${printable(file)}: ${count(sources, 'source')}, ${count(pools, 'pool')}, ${count(vips, 'vip')}; ${where}\n`,
	);
	for (const { key, why } of warnings) {
		context.stdout.write(`${paint('yellow', 'warning')}  ${printable(key)}: ${printable(why)}\n`);
	}
}

function count(n: number, noun: string): string {
	return `${n} ${noun}${n === 1 ? '' : 's'}`;
}
