// SPDX-License-Identifier: Apache-2.0
// `xdpilot why`: asks the daemon where a flow goes now. Reads the live tables, changes none.
import { Command } from 'commander';
import { formatAge } from '../../observe/age.ts';
import { requestControl } from '../../observe/control-client.ts';
import { flowQuery, parseFlow } from '../../observe/flow-query.ts';
import type { WhyReport } from '../../observe/report.ts';
import type { CliContext } from '../context.ts';
import { jsonOption, socketOption } from '../options.ts';
import { painter, printable, printJson } from '../terminal.ts';

interface WhyOptions {
	readonly socket: string;
	readonly json?: boolean;
}

export function whyCommand(context: CliContext): Command {
	return new Command('why')
		.description('which backend a flow gets now, and why')
		.argument('<source>', 'the client: ADDRESS:PORT')
		.argument('<dest>', 'what it connects to: ADDRESS:PORT/tcp or /udp')
		.addOption(socketOption())
		.addOption(jsonOption())
		.addHelpText(
			'after',
			'\nExamples:\n  xdpilot why 192.0.2.7:40000 203.0.113.10:443/tcp\n  xdpilot why [2001:db8::7]:40000 [2001:db8:1::1]:443/udp',
		)
		.action((source: string, dest: string, options: WhyOptions) => why(context, { source, dest }, options));
}

async function why(context: CliContext, flow: { source: string; dest: string }, { socket, json }: WhyOptions): Promise<void> {
	parseFlow(flow.source, flow.dest);
	const report = (await requestControl({ socket, method: 'GET', path: `/why?${flowQuery(flow.source, flow.dest)}` })) as WhyReport;
	if (json) return printJson(context, report);
	const paint = painter(context.stdout);
	context.stdout.write(`${printable(report.sentence)}\n\n`);
	const facts = factsOf(report);
	const width = Math.max(...facts.map(([name]) => name.length));
	for (const [name, value] of facts) context.stdout.write(`  ${paint('dim', name.padEnd(width))}  ${printable(value)}\n`);
}

function factsOf(report: WhyReport): (readonly [string, string])[] {
	const { flow_entry: entry, ring, registry, hold, backend } = report;
	const facts: (readonly [string, string | null])[] = [
		['vip', report.vip],
		['pool', report.pool],
		['backend', backend && `${backend.address} (${backend.state}${backend.note === null ? '' : `, ${backend.note}`})`],
		['decided by', report.via === 'none' ? null : report.via === 'ring' ? 'ring' : 'flow table'],
		[
			'flow entry',
			entry &&
				`${entry.backend ?? 'a backend that is gone'}, last seen ${formatAge(entry.age_seconds)} ago${entry.usable ? '' : ', no longer usable'}`,
		],
		['ring slot', report.slot === null ? null : `${report.slot}${ring?.size ? ` of ${ring.size}` : ''} -> ${ring?.backend ?? 'empty'}`],
		['ring', ring && `generation ${ring.generation}${ring.digest === null ? '' : `, ${ring.digest}`}`],
		['dropped', report.drop],
		[
			'registry',
			registry && `${registry.source}/${registry.service}${registry.revision === null ? '' : ` at revision ${registry.revision}`}`,
		],
		['last change', registry?.change ? `${registry.change.at} ${registry.change.summary}` : null],
		['hold', hold && `${hold.reason}, until ${hold.until}`],
	];
	return facts.flatMap(([name, value]) => (value === null ? [] : [[name, value] as const]));
}
