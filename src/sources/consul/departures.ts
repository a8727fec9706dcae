// SPDX-License-Identifier: Apache-2.0
// How instances have gone, as far as the catalog proves it. Consul answers `[]` with success to a token that lost its
// rights, and after its data was wiped; so an absence counts only if the token provably still sees the service and
// the node, and the node is the same one as before.
import { z } from 'zod';
import type { AbsenceKind, Instance } from '../../model/snapshot.ts';
import { type CatalogPlace, nodeIdentity } from './answer.ts';
import type { ConsulClient } from './consul-client.ts';

export interface DepartureQuestion {
	readonly service: string;
	readonly tags: readonly string[];
	readonly gone: readonly Instance[];
	readonly placeOf: (id: string) => CatalogPlace | undefined;
	/** Others of this service are in the same answer: the token still sees it. */
	readonly areOthersListed: boolean;
	readonly client: Pick<ConsulClient, 'mayRead' | 'node'>;
	readonly signal: AbortSignal;
}

/** Nodes asked about for one answer; the rest stays unproven until the next. */
const MAX_NODES = 64;

const nodeAnswer = z.object({
	Node: z.object({ ID: z.string().nullish(), CreateIndex: z.number().nullish() }),
	Services: z.record(z.string(), z.object({ Service: z.string(), Tags: z.array(z.string()).nullish() })),
});

/** The kinds that are proven, by instance id. @throws XdpilotError E_SOURCE when the catalog can't be asked */
export async function departures(question: DepartureQuestion): Promise<Map<string, AbsenceKind>> {
	const { service, gone, placeOf, client, signal, areOthersListed } = question;
	const places = new Map(gone.flatMap(({ id }) => (placeOf(id) === undefined ? [] : [[id, placeOf(id) as CatalogPlace] as const])));
	const nodes = [...new Set([...places.values()].map((p) => p.node))].sort().slice(0, MAX_NODES);
	const kinds = new Map<string, AbsenceKind>();
	if (nodes.length === 0) return kinds;
	const rights = await client.mayRead(service, nodes, signal);
	if (rights === undefined ? !areOthersListed : !rights.service) return kinds;
	for (const node of nodes) {
		if (rights !== undefined && !rights.nodes.has(node)) continue;
		const answer = await client.node(node, signal);
		for (const [id, place] of places) {
			if (place.node !== node) continue;
			// Without known rights a hidden node looks like one that is gone.
			const kind = answer === null ? (rights === undefined ? undefined : 'node-gone') : departureFrom(answer, place, question);
			if (kind !== undefined) kinds.set(id, kind);
		}
	}
	return kinds;
}

function departureFrom(answer: unknown, place: CatalogPlace, { service, tags }: DepartureQuestion): AbsenceKind | undefined {
	const parsed = nodeAnswer.safeParse(answer);
	if (!parsed.success || nodeIdentity(parsed.data.Node) !== place.nodeIdentity) return undefined;
	const there = new Map(Object.entries(parsed.data.Services)).get(place.serviceId);
	// Listed here and not there: the two answers belong to different moments, the next one will tell.
	const isStillThere = there?.Service === service && tags.every((t) => there.Tags?.includes(t));
	return isStillThere ? undefined : 'deregistered';
}
