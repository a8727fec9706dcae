// SPDX-License-Identifier: Apache-2.0
// What the demo's clients and servers write down, each by itself: the client every exchange, the server every flow that
// reached it. Promises are judged from these two records alone.
import { type Address, familyOf } from '../../model/address.ts';
import { formatEndpoint, type Protocol } from '../../model/vip.ts';

/** Identity of a flow, equal at both ends: `10.77.1.2:20001>203.0.113.10:80/tcp`. */
export type FlowKey = string;

/**
 * new: one request on a connection of its own. kept: one of many requests on a connection that stays open.
 * datagram: one of many on a UDP flow that stays.
 */
export type ExchangeKind = 'new' | 'kept' | 'datagram';

/** One request as its client saw it. */
export interface Exchange {
	/** Env.wallNow() when it was sent. */
	readonly at: number;
	/** Until it was answered or given up. */
	readonly ms: number;
	readonly kind: ExchangeKind;
	readonly flow: FlowKey;
	/** Who answered; null when nobody did. */
	readonly backend: string | null;
	readonly error: string | null;
}

/** One flow as a server saw it. */
export interface SeenFlow {
	readonly flow: FlowKey;
	/** Requests answered so far. */
	readonly requests: number;
	/** Env.wallNow() of the first and the last. */
	readonly firstAt: number;
	readonly lastAt: number;
}

export interface Target {
	readonly address: Address;
	readonly port: number;
}

/** What the client process is told at its start. */
export interface LoadPlan {
	readonly targets: readonly Target[];
	/** The client's own addresses, one for each family. */
	readonly sources: readonly Address[];
	/** New connections a second, over all targets. */
	readonly newPerSecond: number;
	/** Connections that stay open, for each target. */
	readonly kept: number;
	/** UDP flows that stay, for each target. */
	readonly datagramFlows: number;
	/** Milliseconds between two requests of one flow that stays. */
	readonly paceMs: number;
	/** Milliseconds after which a request has failed. */
	readonly deadlineMs: number;
}

export function flowKey(source: Address, sourcePort: number, dest: Address, destPort: number, protocol: Protocol): FlowKey {
	return `${formatEndpoint(source, sourcePort)}>${formatEndpoint(dest, destPort)}/${protocol}`;
}

/** The two ends of a flow key as `xdpilot why` takes them. */
export function flowEnds(flow: FlowKey): { source: string; dest: string } {
	const [source = '', dest = ''] = flow.split('>');
	return { source, dest };
}

/** The source address that matches a target's family. @throws TypeError when there is none */
export function sourceFor(plan: Pick<LoadPlan, 'sources'>, target: Target): Address {
	const source = plan.sources.find((s) => familyOf(s) === familyOf(target.address));
	if (source === undefined) throw new TypeError(`the client has no address of the family of ${target.address}`);
	return source;
}
