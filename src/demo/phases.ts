// SPDX-License-Identifier: Apache-2.0
// The demo's acts, in order. Each does one thing to the running network, waits until the data plane shows it, lets the
// traffic run on, and writes down when what happened. Judging is not done here.
import { type Env, sleep } from '../env.ts';
import type { NativeAddon } from '../native/binding.ts';
import type { StatusReport } from '../observe/report.ts';
import type { BackendProcess } from './backend-process.ts';
import { type DemoNetwork, POOLS } from './network.ts';
import { expectedExcess, type SlotMoves } from './ring-expectation.ts';
import type { Screen } from './screen.ts';
import { showChange, showDaemonBack, showDaemonDown, showDeath, showWindow } from './show.ts';
import type { ChangeStory, Story } from './story.ts';
import { failures, unconfirmedAnswers } from './traffic/tally.ts';

export interface Stage {
	readonly env: Env;
	readonly network: DemoNetwork;
	readonly native: NativeAddon;
	readonly screen: Screen;
	readonly signal: AbortSignal;
}

export const LOAD = { newPerSecond: 120, kept: 5, datagramFlows: 4, paceMs: 60, deadlineMs: 3000 } as const;
const BASELINE_MS = 4000;
const AFTER_CHANGE_MS = 3000;
const AFTER_LEAVE_MS = 4000;
const DAEMON_DOWN_MS = 2500;
const AFTER_RESTART_MS = 2000;
const LIVE_MS = 250;
/** Servers report what they saw every 100 ms, later on a busy machine. */
const LAST_REPORTS_MS = 5000;
const REPORTS_STEP_MS = 150;

/** Everything that is known only once the traffic has ended is added by the caller. */
export type Acts = Omit<Story, 'exchanges' | 'records' | 'to'>;

/** Runs all acts while the load runs. @throws XdpilotError E_DEMO; the signal's reason when it aborts */
export async function runActs(stage: Stage): Promise<Acts> {
	const { env, network, screen } = stage;
	const from = env.wallNow();
	network.load.begin(network.loadPlan(LOAD));
	// Made ready in the background; a failure is met where it is waited for.
	const fourth = network.prepareBackend();
	fourth.catch(() => {});
	screen.heading('Three backends share the load');
	await watch(stage, BASELINE_MS);
	showWindow(stage, from, []);
	const join = await joinAct(stage, fourth);
	const leave = await leaveAct(stage);
	const death = await deathAct(stage);
	const daemon = await daemonAct(stage);
	return { from, join, leave, death, ...daemon };
}

/** Ends the load, and waits until every backend has reported what it saw, or should have. */
export async function finishLoad({ env, network, signal }: Stage, death: ChangeStory): Promise<void> {
	await network.load.stop();
	const until = env.now() + LAST_REPORTS_MS;
	do {
		await sleep(env, REPORTS_STEP_MS, signal);
	} while (env.now() < until && unconfirmedAnswers(network.load.exchanges, network.records(death)).length > 0);
}

async function joinAct(stage: Stage, fourth: Promise<BackendProcess>): Promise<ChangeStory> {
	const { network, screen } = stage;
	screen.heading('A fourth backend joins');
	screen.live('starting it');
	const joiner = await fourth;
	const expectation = await expectedSlots(stage, 3, 4);
	const at = await network.join(joiner);
	const story = changeStory(joiner, at, await network.untilInRing(joiner, true, expectation.before), expectation);
	await watch(stage, AFTER_CHANGE_MS);
	showWindow(stage, at, [[joiner.name, 'joined']]);
	showChange(stage, story, 'joined');
	return story;
}

async function leaveAct(stage: Stage): Promise<ChangeStory> {
	const { network, screen } = stage;
	const leaver = backendAt(network, 1);
	screen.heading(`${leaver.name} is deregistered while it serves`);
	const expectation = await expectedSlots(stage, 4, 3);
	const at = await network.registry.leave(leaver);
	const story = changeStory(leaver, at, await network.untilInRing(leaver, false, expectation.before), expectation);
	await watch(stage, AFTER_LEAVE_MS);
	showWindow(stage, at, [[leaver.name, 'draining']]);
	showChange(stage, story, 'left');
	return story;
}

async function deathAct(stage: Stage): Promise<ChangeStory> {
	const { network, screen } = stage;
	const victim = backendAt(network, 2);
	screen.heading(`${victim.name} is killed (kill -9)`);
	const expectation = await expectedSlots(stage, 3, 2);
	const at = await victim.kill();
	screen.live('waiting for the registry to notice');
	await network.registry.died(victim);
	const story = changeStory(victim, at, await network.untilInRing(victim, false, expectation.before), expectation);
	await watch(stage, AFTER_CHANGE_MS);
	showWindow(stage, at, [
		[victim.name, 'dead'],
		[backendAt(network, 1).name, 'draining'],
	]);
	showDeath(stage, story);
	return story;
}

async function daemonAct(stage: Stage): Promise<Pick<Story, 'daemonKilledAt' | 'daemonBackAt' | 'afterRestart'>> {
	const { env, network, screen } = stage;
	screen.heading('XDPilot itself is killed (kill -9) while traffic flows');
	const daemonKilledAt = env.wallNow();
	await network.daemon.kill();
	await watch(stage, DAEMON_DOWN_MS);
	showDaemonDown(stage, daemonKilledAt);
	screen.live('starting it again');
	const status = await network.daemon.start((s) => s.state === 'ok');
	const daemonBackAt = env.wallNow();
	await watch(stage, AFTER_RESTART_MS);
	const { adopted, ring_swaps, mode } = await network.daemon.status();
	showDaemonBack(stage, daemonBackAt - daemonKilledAt, status);
	return { daemonKilledAt, daemonBackAt, afterRestart: { adopted, ring_swaps, mode } };
}

/** Lets the traffic run, showing how it goes. */
async function watch({ env, network, screen, signal }: Stage, ms: number): Promise<void> {
	const until = env.now() + ms;
	for (let left = ms; left > 0; left = until - env.now()) {
		await sleep(env, Math.min(left, LIVE_MS), signal);
		network.check();
		const { exchanges } = network.load;
		screen.live(`${exchanges.length} requests, ${failures(exchanges).length} failed`);
	}
}

interface Expectation {
	/** As it was before the change. */
	readonly before: StatusReport;
	readonly beyond: number;
	readonly ofSlots: number;
}

/** What Maglev moves beyond the unavoidable in all pools together when each goes from `before` to `after` backends. */
async function expectedSlots({ env, native, network }: Stage, before: number, after: number): Promise<Expectation> {
	const status = await network.daemon.status();
	const rings = status.pools.flatMap((p) => (p.ring === null ? [] : [p.ring.size]));
	const each = await Promise.all(rings.map((size) => expectedExcess(native, env, size, before, after)));
	const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
	return { before: status, beyond: sum(each), ofSlots: sum(rings) };
}

/** From the status in which all pools show the change. */
function changeStory(backend: BackendProcess, at: number, status: StatusReport, { beyond, ofSlots }: Expectation): ChangeStory {
	const changes = status.pools.filter((p) => Object.values<string>(POOLS).includes(p.name)).flatMap((p) => p.last_change ?? []);
	const swapAt = Math.max(...changes.map((c) => Date.parse(c.at)));
	const slots = changes.reduce<SlotMoves | null>(
		(sum, c) =>
			sum === null || c.moved === null || c.unavoidable === null
				? null
				: { moved: sum.moved + c.moved, unavoidable: sum.unavoidable + c.unavoidable },
		{ moved: 0, unavoidable: 0 },
	);
	return { backend: backend.name, at, swapAt, slots, expectedBeyond: beyond, ofSlots };
}

function backendAt(network: DemoNetwork, index: number): BackendProcess {
	const backend = network.backends[index];
	if (backend === undefined) throw new RangeError(`there is no backend ${index}`);
	return backend;
}
