// SPDX-License-Identifier: Apache-2.0
// The MSS that this host offers. Between balancer and backend every packet carries an outer header more, so clients
// must be told to send smaller segments than the link could take: advmss on the default routes. Routes are handled in
// ip-route(8)'s own words, so that nothing else about them changes.
import { XdpilotError } from '../errors.ts';
import { type Argv, runCommand } from '../host/command.ts';
import type { Family } from '../model/address.ts';
import type { RouteChange } from './state.ts';

/** A default route in ip-route(8)'s words, and the advmss it has. */
export interface DefaultRoute {
	readonly family: Family;
	/** Without advmss and without words about its present condition. */
	readonly words: readonly string[];
	readonly advmss: number | null;
	/** The kernel made it from a router advertisement, and will renew it by its own idea of it. */
	readonly isAdvertised: boolean;
}

const TCP_HEADER = 20;
const IP_HEADER: Readonly<Record<Family, number>> = { 4: 20, 6: 40 };
/** RFC 1122 4.2.2.6: every host must take this much; below it, TCP is crippled rather than helped. */
const LEAST_MSS = 536;
const CONDITIONS = new Set(['linkdown', 'dead', 'offload', 'rt_offload', 'trap', 'rt_trap', 'offload_failed', 'unresolved']);
/** IPv6 routes without a stated metric have this one. */
const DEFAULT_METRIC6 = 1024;

/** The MSS that leaves room for `overhead` bytes of outer headers on a path that carries `mtu` bytes. @throws XdpilotError E_HOST when too little is left */
export function fittingMss(family: Family, mtu: number, overhead: number): number {
	const mss = mtu - overhead - IP_HEADER[family] - TCP_HEADER;
	if (mss >= LEAST_MSS) return mss;
	throw new XdpilotError('E_HOST', `an MTU of ${mtu} leaves an MSS of ${mss} for IPv${family}, less than ${LEAST_MSS}`, {
		hint: 'state the MTU between load balancer and backend with --mtu',
	});
}

/** The default routes through an interface, best first as ip-route(8) lists them. */
export async function defaultRoutes(interfaceName: string, family: Family): Promise<DefaultRoute[]> {
	const text = await runCommand(['ip', `-${family}`, 'route', 'show', 'default']);
	return parseDefaultRoutes(text, family).filter((r) => r.words.some((w, i) => w === 'dev' && r.words[i + 1] === interfaceName));
}

/** What `ip route show default` printed; a multipath route continues on indented lines. */
export function parseDefaultRoutes(text: string, family: Family): DefaultRoute[] {
	return text
		.replace(/\n\s+/g, ' ')
		.split('\n')
		.map((line) => line.split(/\s+/).filter((w) => w !== '' && !CONDITIONS.has(w)))
		.filter((words) => words[0] === 'default')
		.map((words) => {
			const at = words.indexOf('advmss');
			return {
				family,
				words: withoutPair(words, 'advmss').map((w, i, all) => (all[i - 1] === 'expires' ? w.replace(/sec$/, '') : w)),
				advmss: at < 0 ? null : Number(words[at + 1]),
				isAdvertised: wordAfter(words, 'proto') === 'ra',
			};
		});
}

/** The change that makes a route offer at most `mss`; undefined when it does already. */
export function neededRouteChange(route: DefaultRoute, mss: number): RouteChange | undefined {
	if (route.advmss !== null && route.advmss <= mss) return undefined;
	const base = { family: route.family, advmss: mss, previous: route.advmss };
	if (!route.isAdvertised) return { ...base, kind: 'replaced', route: [...route.words] };
	// The kernel would put its own version back at the next advertisement: a copy of ours goes in front of it.
	const metric = Number(wordAfter(route.words, 'metric') ?? DEFAULT_METRIC6);
	const words = ['proto', 'metric', 'expires', 'pref'].reduce<readonly string[]>(withoutPair, route.words);
	return { ...base, kind: 'added', route: [...words, 'metric', String(metric - 1)] };
}

export async function applyRouteChange(c: RouteChange): Promise<void> {
	await runCommand(routeArgv(c.family, 'replace', c.route, c.advmss));
}

/** Gives a route back the advmss that it had; a route that has gone, or that someone changed since, stays as it is. */
export async function undoRouteChange(c: RouteChange): Promise<boolean> {
	const text = await runCommand(['ip', `-${c.family}`, 'route', 'show', 'default']);
	const present = parseDefaultRoutes(text, c.family).find((r) => sameRoute(r.words, c.route) && r.advmss === c.advmss);
	if (present === undefined) return false;
	const undo =
		c.kind === 'added' ? routeArgv(c.family, 'delete', c.route, c.advmss) : routeArgv(c.family, 'replace', present.words, c.previous);
	await runCommand(undo);
	return true;
}

/** The same next hops with the same metric; how long it is still valid does not matter. */
export function sameRoute(a: readonly string[], b: readonly string[]): boolean {
	const identity = (words: readonly string[]) => ['expires', 'pref', 'proto'].reduce<readonly string[]>(withoutPair, words).join(' ');
	return identity(a) === identity(b);
}

function routeArgv(family: Family, verb: string, words: readonly string[], advmss: number | null): Argv {
	// advmss belongs to the route, so it must stand before the first next hop of a multipath route.
	const hop = words.indexOf('nexthop');
	const split = hop < 0 ? words.length : hop;
	const option = advmss === null ? [] : ['advmss', String(advmss)];
	return ['ip', `-${family}`, 'route', verb, ...words.slice(0, split), ...option, ...words.slice(split)];
}

function withoutPair(words: readonly string[], name: string): string[] {
	const at = words.indexOf(name);
	return at < 0 ? [...words] : [...words.slice(0, at), ...words.slice(at + 2)];
}

function wordAfter(words: readonly string[], name: string): string | undefined {
	const at = words.indexOf(name);
	return at < 0 ? undefined : words[at + 1];
}
