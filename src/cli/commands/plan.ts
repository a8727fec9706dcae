// SPDX-License-Identifier: Apache-2.0
// `xdpilot plan`: reads every source once, passes the answers through the daemon's own guard, compares the outcome with
// what is pinned, and prints the difference. Changes nothing.
import { Command } from 'commander';
import { missingFeatures } from '../../config/features.ts';
import { loadConfig } from '../../config/load.ts';
import type { Config } from '../../config/schema.ts';
import type { PinnedState } from '../../datapath/pinned-state.ts';
import { systemEnv } from '../../env.ts';
import { EXIT, XdpilotError } from '../../errors.ts';
import { silentLogger } from '../../log.ts';
import type { Change } from '../../reconcile/change.ts';
import { describeChange } from '../../reconcile/describe.ts';
import { planChanges } from '../../reconcile/plan.ts';
import type { CliContext } from '../context.ts';
import { configOption, jsonOption, secondsOption } from '../options.ts';
import { listPinned } from '../pinned.ts';
import { changeJson } from '../plan-json.ts';
import { painter, printable, printJson } from '../terminal.ts';

interface PlanOptions {
	readonly config: string;
	readonly timeout: number;
	readonly json?: true;
}

/** What a plan is made of, and its outcome. */
interface Planned {
	readonly changes: readonly Change[];
	readonly pools: readonly ReadPool[];
	readonly waiting: ReadonlyMap<string, string>;
	/** Where the actual state was found; null when there was none. */
	readonly comparedWith: string | null;
}

type ReadPool = Awaited<ReturnType<typeof import('../../daemon.ts').readDesired>>['pools'][number];

export function planCommand(context: CliContext): Command {
	return new Command('plan')
		.description('read the sources once and print what would change; changes nothing')
		.addOption(configOption())
		.addOption(secondsOption('--timeout <seconds>', 'how long the sources may take', 30))
		.addOption(jsonOption())
		.addHelpText(
			'after',
			'\nExit status: 0 nothing to do, 2 changes are pending, 1 a source could not be read, 78 the configuration is invalid.',
		)
		.action((options: PlanOptions) => plan(context, options));
}

async function plan(context: CliContext, { config: file, timeout, json }: PlanOptions): Promise<void> {
	const config = loadConfig(file);
	const planned = await makePlan(config, timeout);
	const warnings = missingFeatures(config);
	if (json) {
		const { changes, pools, waiting, comparedWith } = planned;
		printJson(context, {
			schema: 'xdpilot.plan/v1',
			compared_with: comparedWith,
			changes: changes.map(changeJson),
			pools,
			waiting_vips: [...waiting].map(([vip, reason]) => ({ vip, reason })),
			warnings,
		});
	} else {
		for (const { key, why } of warnings) context.stderr.write(`warning: ${printable(key)}: ${printable(why)} in this version\n`);
		printPlan(context, planned);
	}
	const unread = planned.pools.filter((pool) => pool.error !== null);
	if (unread.length > 0) {
		const reasons = unread.map((pool) => `pool ${pool.name}: ${pool.error}`);
		throw new XdpilotError('E_SOURCE', reasons.join('; '), { unaffected: 'these pools stay as they are' });
	}
	context.exitWith(planned.changes.length > 0 ? EXIT.changesPending : EXIT.ok);
}

async function makePlan(config: Config, timeoutSeconds: number): Promise<Planned> {
	// Loaded here: only `plan` and `run` need the registries' clients.
	const { createSources, NOTHING_YET, readDesired } = await import('../../daemon.ts');
	const { SystemHost } = await import('../../host/host.ts');
	const pinned = await readPinned(config);
	const interfaces = await new SystemHost(systemEnv).interfaces();
	const logger = silentLogger();
	const sources = createSources(config, systemEnv, logger);
	const patience = new AbortController();
	const timer = systemEnv.setTimer(timeoutSeconds * 1000, () => {
		patience.abort(new XdpilotError('E_SOURCE', `no answer within ${timeoutSeconds} s`));
	});
	try {
		const actual = pinned?.state ?? NOTHING_YET;
		const own = interfaces.flatMap((each) => each.addresses.map(({ address, length }) => ({ address, length })));
		const read = await readDesired({ config, sources, own, actual, env: systemEnv, logger, signal: patience.signal });
		const serverIds = sameServerIds(read.desired.serverIds, pinned?.state.serverIds) ? null : read.desired.serverIds;
		const changes = planChanges({ ...read.desired, serverIds }, actual);
		return { changes, pools: read.pools, waiting: read.desired.waitingVips, comparedWith: pinned?.path ?? null };
	} finally {
		timer.cancel();
		await Promise.allSettled([...sources.values()].map((source) => source.close()));
	}
}

/** What is pinned for the configured interface; undefined when nothing is, or the interface isn't here. */
async function readPinned(config: Config): Promise<{ readonly path: string; readonly state: PinnedState } | undefined> {
	const found = (await listPinned(config.datapath.pin_path)).find((instance) =>
		config.datapath.interfaces.includes(instance.interface ?? ''),
	);
	if (found === undefined) return undefined;
	const { loadNative } = await import('../../native/binding.ts');
	const { readPinnedState } = await import('../../datapath/pinned-state.ts');
	const state = readPinnedState(loadNative(), config.datapath.pin_path, found.ifindex);
	return state && { path: found.path, state };
}

function sameServerIds(wanted: PinnedState['serverIds'] | null, pinned: PinnedState['serverIds'] | undefined): boolean {
	if (wanted === null) return true;
	if (wanted.ids.size !== (pinned?.ids.size ?? 0)) return false;
	if (wanted.ids.size === 0) return true;
	return wanted.encap === pinned?.encap && [...wanted.ids].every(([id, address]) => pinned.ids.get(id) === address);
}

function printPlan(context: CliContext, { changes, pools, waiting, comparedWith }: Planned): void {
	const paint = painter(context.stdout);
	const say = (text: string) => context.stdout.write(`${text}\n`);
	for (const change of changes) {
		const mark = SIGNS[change.kind];
		say(`${paint(mark === '+' ? 'green' : mark === '-' ? 'red' : 'yellow', mark)} ${printable(describeChange(change))}`);
	}
	for (const { name, hold, rejected } of pools) {
		if (hold !== null) say(`${paint('yellow', '!')} pool ${name}: held: ${printable(hold)}`);
		for (const { instance, reason } of rejected)
			say(`${paint('yellow', '!')} pool ${name}: refused ${printable(`${instance}: ${reason}`)}`);
	}
	for (const [vip, reason] of waiting) say(`${paint('yellow', '!')} vip ${vip} waits: ${printable(reason)}`);
	const against = comparedWith === null ? 'nothing is pinned yet' : `compared with ${comparedWith}`;
	const verdict = changes.length === 0 ? 'nothing to do' : `${changes.length} ${changes.length === 1 ? 'change' : 'changes'} pending`;
	say(`${verdict} (${against}); nothing was changed`);
}

const SIGNS: Readonly<Record<Change['kind'], '+' | '-' | '~'>> = {
	'pool-add': '+',
	'backend-add': '+',
	'backend-state': '~',
	'ring-swap': '~',
	'server-ids': '~',
	'vip-add': '+',
	'vip-change': '~',
	'vip-remove': '-',
	'backend-remove': '-',
	'pool-remove': '-',
};
