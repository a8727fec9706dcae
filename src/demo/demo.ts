// SPDX-License-Identifier: Apache-2.0
// The demo from beginning to end: network, acts, verdict, and everything taken away again whatever happens.
import { type Env, sleep } from '../env.ts';
import { XdpilotError } from '../errors.ts';
import type { NativeAddon } from '../native/binding.ts';
import type { DemoFigures } from './figures.ts';
import { judge } from './judge.ts';
import { removeLeftovers } from './leftovers.ts';
import { DEMO_PREFIX, DemoNetwork } from './network.ts';
import { finishLoad, LOAD, runActs, type Stage } from './phases.ts';
import type { RegistryKind } from './registry/registry.ts';
import type { Screen } from './screen.ts';
import { showKept, showLoad, showNetwork, showNextSteps, showOpening, showVerdict, showWhy } from './show.ts';
import { flowEnds } from './traffic/exchange.ts';

export interface DemoOptions {
	readonly env: Env;
	readonly native: NativeAddon;
	readonly screen: Screen;
	/** Ends the demo early; everything is removed all the same. */
	readonly signal: AbortSignal;
	readonly registry: RegistryKind;
	/** Path of etcd or Consul; undefined for a file. */
	readonly program: string | undefined;
	/** Why another registry than the one asked for; null when it is that. */
	readonly fallback: string | null;
	/** Leaves the network up in the end. */
	readonly keep: boolean;
}

/** @throws XdpilotError when it can't be run to its end; a broken promise is in the figures */
export async function runDemo(opts: DemoOptions): Promise<DemoFigures> {
	const { env, screen, signal } = opts;
	const begin = env.now();
	showOpening(screen, opts.registry, opts.fallback);
	for (const name of await removeLeftovers(DEMO_PREFIX)) screen.text(`Removed ${name}, which an earlier demo had left.`);
	signal.throwIfAborted();
	screen.live('building the network');
	const network = await DemoNetwork.create({ ...opts, outlive: opts.keep });
	const onAbort = () => network.abort();
	signal.addEventListener('abort', onAbort, { once: true });
	let isKept = false;
	try {
		signal.throwIfAborted();
		const stage: Stage = { ...opts, network };
		const figures = await perform(stage, opts, begin);
		isKept = opts.keep && !signal.aborted;
		return figures;
	} finally {
		signal.removeEventListener('abort', onAbort);
		if (isKept) leaveUp(screen, network);
		else await takeAway(screen, network);
		screen.end();
	}
}

async function perform(stage: Stage, opts: DemoOptions, begin: number): Promise<DemoFigures> {
	const { env, network, screen } = stage;
	screen.live('starting registry, backends, daemon and client');
	const status = await network.start();
	const ready = env.now();
	showNetwork(stage, status.mode);
	showLoad(screen, LOAD);
	const acts = await runActs(stage);
	const to = env.wallNow();
	const why = await explainOne(stage);
	await finishLoad(stage, acts.death);
	const verdict = judge({ ...acts, to, exchanges: network.load.exchanges, records: network.records(acts.death) });
	showVerdict(screen, verdict);
	showWhy(screen, why.sentence);
	showNextSteps(screen);
	return {
		schema: 'xdpilot.demo/v1',
		source: opts.registry,
		fallback: opts.fallback,
		setup_seconds: seconds(ready - begin),
		seconds: seconds(env.now() - begin),
		...verdict,
		why,
	};
}

/** The answer of `xdpilot why` for a connection that is open right now. */
async function explainOne({ env, network, signal }: Stage): Promise<DemoFigures['why']> {
	for (let tries = 0; tries < 20; tries++) {
		const open = network.load.exchanges.findLast((e) => e.kind === 'kept' && e.error === null && !e.flow.startsWith('['));
		if (open !== undefined) {
			const { source, dest } = flowEnds(open.flow);
			return { flow: open.flow, sentence: (await network.daemon.why(source, dest)).sentence };
		}
		await sleep(env, 100, signal);
	}
	throw new XdpilotError('E_DEMO', 'no connection stayed open');
}

function leaveUp(screen: Screen, network: DemoNetwork): void {
	network.release();
	showKept(screen, network);
}

async function takeAway(screen: Screen, network: DemoNetwork): Promise<void> {
	screen.live('taking the network away');
	await network.remove();
}

function seconds(ms: number): number {
	return Math.round(ms / 100) / 10;
}
