// SPDX-License-Identifier: Apache-2.0
// `status` for people: a verdict, the problems, then one table a noun.

import { parseAddress } from '../model/address.ts';
import { formatEndpoint } from '../model/vip.ts';
import { formatAge } from '../observe/age.ts';
import type { BackendReport, PoolReport, StatusReport, VipReport } from '../observe/report.ts';
import type { SourceStatus } from '../sources/source.ts';
import { renderTable } from './table.ts';
import { type Colour, type Paint, printable } from './terminal.ts';

/** @param limit backends that are listed; above it only those that are not plainly active */
export function renderStatus(report: StatusReport, paint: Paint, limit: number): string[] {
	const lines = [headline(report, paint)];
	for (const problem of report.problems) lines.push(`  ${paint('yellow', '!')} ${printable(problem)}`);
	const section = (table: readonly string[]) => {
		if (table.length > 1) lines.push('', ...table);
	};
	section(vipTable(report.vips, paint));
	section(poolTable(report, paint));
	section(backendTable(report.pools, paint, limit));
	const hidden = hiddenBackends(report.pools, limit);
	if (hidden > 0) lines.push(paint('dim', `${hidden} active backends are not listed; --all lists them`));
	section(sourceTable(report.sources, paint));
	const drops = Object.entries(report.drops).filter(([, count]) => count > 0);
	if (drops.length > 0) lines.push('', `dropped: ${drops.map(([reason, count]) => `${reason} ${count}`).join(', ')}`);
	return lines;
}

function headline(report: StatusReport, paint: Paint): string {
	const colour: Colour = report.state === 'ok' ? 'green' : report.state === 'degraded' ? 'red' : 'yellow';
	const swaps = report.adopted ? `, took over a running data plane, ${report.ring_swaps} ring writes since` : '';
	return `${paint(colour, report.state)}  ${report.interface} (${report.mode})${swaps}; xdpilot ${report.version}, pid ${report.pid}, since ${report.started_at}`;
}

function vipTable(vips: readonly VipReport[], paint: Paint): string[] {
	return renderTable(
		vips,
		[
			{ title: 'vip', value: vipText },
			{ title: 'pool', value: (vip) => vip.pool },
			{ title: 'packets', value: (vip) => vip.packets },
			{ title: 'bytes', value: (vip) => vip.bytes },
			{ title: 'new flows', value: (vip) => vip.new_flows },
			{ title: 'flags', value: (vip) => vip.flags.join(','), omit: 'empty' },
		],
		paint,
	);
}

function vipText({ address, port, protocol }: VipReport): string {
	const single = parseAddress(address);
	const where = port === 0 ? '*' : String(port);
	return single === undefined ? `${address} ${where}/${protocol}` : `${formatEndpoint(single, port).replace(/\d+$/, where)}/${protocol}`;
}

function poolTable({ pools }: StatusReport, paint: Paint): string[] {
	const active = (pool: PoolReport) => pool.backends.filter((backend) => backend.state === 'active').length;
	return renderTable(
		pools,
		[
			{ title: 'pool', value: (pool) => pool.name },
			{
				title: 'state',
				value: (pool) => pool.state,
				colour: (pool) => (pool.state === 'ok' ? 'green' : pool.state === 'error' ? 'red' : 'yellow'),
			},
			{ title: 'active', value: (pool) => `${active(pool)}/${pool.backends.length}` },
			{ title: 'source', value: (pool) => `${pool.source}/${pool.service}` },
			{ title: 'revision', value: (pool) => pool.revision },
			{ title: 'ring', value: (pool) => pool.ring?.generation ?? null },
			{ title: 'digest', value: (pool) => pool.ring?.digest?.replace(/^sha256:/, '').slice(0, 12) ?? null },
			{ title: 'refused', value: (pool) => pool.rejected.length, omit: 'empty' },
			{ title: 'last change', value: (pool) => pool.last_change && `${pool.last_change.at} ${pool.last_change.summary}` },
		],
		paint,
	);
}

interface BackendRow extends BackendReport {
	readonly pool: string;
}

function backendRows(pools: readonly PoolReport[], limit: number): BackendRow[] {
	const all = pools.flatMap((pool) => pool.backends.map((backend) => ({ ...backend, pool: pool.name })));
	return all.length <= limit ? all : all.filter((backend) => backend.state !== 'active' || backend.note !== null);
}

function hiddenBackends(pools: readonly PoolReport[], limit: number): number {
	return pools.reduce((sum, pool) => sum + pool.backends.length, 0) - backendRows(pools, limit).length;
}

function backendTable(pools: readonly PoolReport[], paint: Paint, limit: number): string[] {
	return renderTable(
		backendRows(pools, limit),
		[
			{ title: 'pool', value: (row) => row.pool, omit: 'same' },
			{ title: 'backend', value: (row) => row.address },
			{
				title: 'state',
				value: (row) => row.state,
				colour: (row) => (row.state === 'active' ? 'green' : row.state === 'down' ? 'red' : 'yellow'),
			},
			{ title: 'weight', value: (row) => row.weight },
			{ title: 'slots', value: (row) => row.slots },
			{ title: 'packets', value: (row) => row.packets },
			{ title: 'bytes', value: (row) => row.bytes },
			{ title: 'note', value: (row) => row.note, omit: 'empty' },
		],
		paint,
	);
}

function sourceTable(sources: readonly SourceStatus[], paint: Paint): string[] {
	return renderTable(
		sources,
		[
			{ title: 'source', value: (source) => source.name },
			{ title: 'kind', value: (source) => source.kind },
			{ title: 'state', value: (source) => source.state, colour: (source) => (source.state === 'up' ? 'green' : 'yellow') },
			{ title: 'answered', value: (source) => (source.age_seconds === null ? 'never' : `${formatAge(source.age_seconds)} ago`) },
			{ title: 'error', value: (source) => source.error, omit: 'empty' },
		],
		paint,
	);
}
