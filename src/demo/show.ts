// SPDX-License-Identifier: Apache-2.0
// What is said on the screen about each act. Only words and figures; nothing here decides anything.
import type { StatusReport } from '../observe/report.ts';
import type { Verdict } from './judge.ts';
import { type DemoNetwork, POOLS, VIP_PORT, VIP4, VIP6 } from './network.ts';
import type { RegistryKind } from './registry/registry.ts';
import type { Screen } from './screen.ts';
import type { ChangeStory } from './story.ts';
import { answersByBackend, failures, firstNewFlow, lastNewFlow, within } from './traffic/tally.ts';

interface Shown {
	readonly screen: Screen;
	readonly network: DemoNetwork;
}

const REGISTRY_NAMES: Readonly<Record<RegistryKind, string>> = { etcd: 'etcd', consul: 'Consul', file: 'a file' };

export function showOpening(screen: Screen, kind: RegistryKind, fallback: string | null): void {
	const how = fallback === null ? '' : ` (${fallback})`;
	screen.text(`XDPilot demo: backends come from ${REGISTRY_NAMES[kind]}${how}. All of it runs in network namespaces of its own.`);
}

export function showNetwork({ screen, network }: Shown, mode: string): void {
	const { client, lb, backends } = network.topology;
	const registry = network.registry.kind;
	screen.text('');
	screen.text(`   client ${client.ipv4} ──▶ router ──▶ load balancer ${lb.ipv4}   XDP ${mode}, backends from ${REGISTRY_NAMES[registry]}`);
	screen.text('        ▲                  │  each packet, in an outer header');
	screen.text(`        │                  ├──▶ ${backends.map((b) => `${b.name} ${b.ipv4}`).join('   ')}`);
	screen.text('        └──────────────────┘  answers go straight back (direct server return)');
	screen.text('');
	screen.fact('vips', `${VIP4}:${VIP_PORT} -> pool ${POOLS.ipv4}    [${VIP6}]:${VIP_PORT} -> pool ${POOLS.ipv6}    tcp and udp each`);
}

export function showLoad(screen: Screen, load: { newPerSecond: number; kept: number; datagramFlows: number; paceMs: number }): void {
	const perSecond = (flows: number) => Math.round((flows * 2 * 1000) / load.paceMs);
	screen.fact(
		'traffic',
		`${load.newPerSecond} new TCP connections a second, ${load.kept * 2} that stay open (${perSecond(load.kept)} requests/s), ` +
			`${load.datagramFlows * 2} UDP flows (${perSecond(load.datagramFlows)} datagrams/s)`,
	);
}

/** New connections by backend since `from`, and what failed. */
export function showWindow({ screen, network }: Shown, from: number, notes: readonly (readonly [string, string])[]): void {
	const exchanges = within(network.load.exchanges, { from, to: Number.POSITIVE_INFINITY });
	const news = answersByBackend(exchanges.filter((e) => e.kind === 'new'));
	const noteOf = new Map(notes);
	screen.bars(
		network.backends.map(({ name }) => {
			const note = noteOf.get(name);
			return { label: name, value: news.get(name) ?? 0, ...(note === undefined ? {} : { note }) };
		}),
	);
	const drawn = [...news.values()].reduce((a, b) => a + b, 0);
	const failed = failures(exchanges).length;
	screen.fact('requests', `${exchanges.length}, of them ${drawn} on new connections (drawn above); ${failed} failed`);
}

export function showChange({ screen, network }: Shown, story: ChangeStory, how: 'joined' | 'left'): void {
	const { exchanges } = network.load;
	const flow = how === 'joined' ? firstNewFlow(exchanges, story.backend, story.at) : lastNewFlow(exchanges, story.backend);
	const inMs = (ms: number) => `${Math.round(ms)} ms`;
	const flowText =
		flow === undefined ? '' : `; ${how === 'joined' ? 'first' : 'last'} new connection there after ${inMs(flow.at - story.at)}`;
	screen.fact('swap', `packets took the new ring ${inMs(story.swapAt - story.at)} after the registry had the change${flowText}`);
	if (how === 'left') {
		const kept = within(exchanges, { from: story.swapAt, to: Number.POSITIVE_INFINITY }).filter((e) => e.backend === story.backend);
		screen.fact('draining', `${story.backend} has answered ${kept.length} more requests of flows that it had`);
	}
	showSlots(screen, story);
}

export function showDeath({ screen, network }: Shown, story: ChangeStory): void {
	const failed = failures(within(network.load.exchanges, { from: story.at, to: Number.POSITIVE_INFINITY }));
	const after = failed.filter((e) => e.at > story.swapAt).length;
	screen.fact('swap', `${Math.round(story.swapAt - story.at)} ms after the kill, most of them until the entry in the registry ran out`);
	screen.fact('until then', `${failed.length - after} requests failed; after the swap ${after}`);
	showSlots(screen, story);
}

export function showDaemonDown({ screen, network }: Shown, since: number): void {
	const exchanges = within(network.load.exchanges, { from: since, to: Number.POSITIVE_INFINITY });
	screen.fact('without it', `${exchanges.length} requests, ${failures(exchanges).length} failed`);
}

export function showDaemonBack({ screen }: Shown, downMs: number, status: StatusReport): void {
	const how = status.adopted ? 'adopted what it found' : 'started from nothing';
	screen.fact('started', `again after ${(downMs / 1000).toFixed(1)} s: ${how}, ${status.ring_swaps} rings written`);
}

export function showVerdict(screen: Screen, verdict: Verdict): void {
	screen.heading('What was promised, judged from the records of client and backends');
	for (const p of verdict.promises) screen.mark(p.kept, `${p.promise}: ${p.found}`);
}

export function showWhy(screen: Screen, sentence: string): void {
	screen.heading('Why does one of these connections go where it goes?');
	for (const line of wrap(sentence, 100)) screen.text(`   ${line}`);
}

export function showNextSteps(screen: Screen): void {
	screen.heading('With your own registry');
	screen.text('   cp config/examples/etcd.yaml lb.yaml         # or consul.yaml, file.yaml');
	screen.text('   npx xdpilot check -c lb.yaml                 # all that is wrong with it');
	screen.text('   sudo npx xdpilot plan -c lb.yaml             # what would change; changes nothing');
	screen.text('   sudo npx xdpilot run -c lb.yaml              # the daemon');
}

export function showKept(screen: Screen, network: DemoNetwork): void {
	screen.heading('The network stays up');
	for (const line of network.topology.lookAround()) screen.text(`   ${line}`);
	screen.text(`   nsenter --net=${network.topology.client.netns} curl http://${VIP4}/ http://[${VIP6}]/`);
	screen.text(`   npx xdpilot status --socket ${network.socket}`);
	screen.text(`   logs and configuration: ${network.folder}`);
	screen.text('   npx xdpilot demo --clean                     # takes it away, as the next demo does');
}

function showSlots(screen: Screen, { slots, expectedBeyond, ofSlots }: ChangeStory): void {
	if (slots === null) return;
	const percent = (n: number) => `${((100 * n) / ofSlots).toFixed(2)} %`;
	const beyond = slots.moved - slots.unavoidable;
	screen.fact(
		'ring slots',
		`${percent(slots.unavoidable)} had to move; ${beyond} beyond that (${percent(beyond)}), where Maglev moves ${percent(expectedBeyond)} on average`,
	);
}

function wrap(text: string, width: number): string[] {
	const lines: string[] = [''];
	for (const word of text.split(' ')) {
		const line = lines.at(-1) ?? '';
		if (line !== '' && line.length + word.length + 1 > width) lines.push(word);
		else lines[lines.length - 1] = line === '' ? word : `${line} ${word}`;
	}
	return lines;
}
