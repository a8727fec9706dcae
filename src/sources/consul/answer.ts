// SPDX-License-Identifier: Apache-2.0
// What Consul's answer about a service means. Entries are checked one by one: a registry of thousands must not be
// lost to one entry that somebody mistyped, or that one flipped bit has spoilt on its way.
import { z } from 'zod';
import { parseAddress } from '../../model/address.ts';
import { MAX_WEIGHT } from '../../model/backend.ts';
import type { Instance, RejectedInstance } from '../../model/snapshot.ts';
import { printable, quote } from '../foreign-text.ts';

const check = z.object({ CheckID: z.string(), Status: z.enum(['passing', 'warning', 'critical']) });
const weight = z.int().min(0).max(MAX_WEIGHT);
const name = z.string().min(1).max(1024);

const entry = z.object({
	Node: z.object({ Node: name, Address: z.string(), ID: z.string().nullish(), CreateIndex: z.number().nullish() }),
	Service: z.object({
		ID: name,
		Service: z.string(),
		Kind: z.string().nullish(),
		Tags: z.array(z.string()).nullish(),
		Address: z.string().nullish(),
		Port: z.int().min(0).max(65_535).default(0),
		Weights: z.object({ Passing: weight.default(1), Warning: weight.default(1) }).nullish(),
	}),
	Checks: z.array(check).nullish(),
});
const named = z.object({ Node: z.object({ Node: name }), Service: z.object({ ID: name }) });
type Entry = z.output<typeof entry>;
type Check = z.output<typeof check>;

/** Where an instance is in the catalog: what its disappearance can be checked against. */
export interface CatalogPlace {
	readonly node: string;
	/** Changes when the node was forgotten and registered anew: with a wiped catalog, for example. */
	readonly nodeIdentity: string;
	readonly serviceId: string;
}

export interface ServiceAnswer {
	readonly instances: readonly Instance[];
	readonly rejected: readonly RejectedInstance[];
	/** By instance id, of instances and of rejected ones that have a place. */
	readonly places: ReadonlyMap<string, CatalogPlace>;
}

/** Reads the body of /v1/health/service/NAME; undefined when it is not even a list. */
export function readAnswer(body: unknown, tags: readonly string[]): ServiceAnswer | undefined {
	if (!Array.isArray(body)) return undefined;
	const instances = new Map<string, Instance>();
	const rejected: RejectedInstance[] = [];
	const places = new Map<string, CatalogPlace>();
	for (const [i, raw] of body.entries()) {
		const reject = (reason: string) => rejected.push({ instance: identityOf(raw) ?? `entry ${i + 1} of the answer`, reason });
		const parsed = entry.safeParse(raw);
		if (!parsed.success) {
			reject(parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; '));
			continue;
		}
		const { Node, Service } = parsed.data;
		// Consul has filtered already; a stale cache or a proxy may not have.
		if (!tags.every((t) => Service.Tags?.includes(t))) continue;
		const id = instanceId(Node.Node, Service.ID);
		const read = instanceOf(id, parsed.data);
		places.set(id, { node: Node.Node, nodeIdentity: nodeIdentity(Node), serviceId: Service.ID });
		if (typeof read === 'string') reject(read);
		else if (instances.has(read.id)) reject('it is in the answer twice');
		else instances.set(read.id, read);
	}
	return { instances: [...instances.values()], rejected, places };
}

/** What tells two incarnations of a node apart. */
export function nodeIdentity(node: { ID?: string | null | undefined; CreateIndex?: number | null | undefined }): string {
	return `${node.ID ?? ''}/${node.CreateIndex ?? ''}`;
}

/** Service ids are unique on one node only. */
function instanceId(node: string, serviceId: string): string {
	return printable(`${node}/${serviceId}`);
}

/** The instance, or why it can't be used. */
function instanceOf(id: string, { Node, Service, Checks }: Entry): Instance | string {
	if (Service.Kind) return `it is a ${printable(Service.Kind).slice(0, 60)}, not a service`;
	const text = Service.Address || Node.Address;
	const address = parseAddress(text);
	if (address === undefined) return `${quote(text)} is not an IP address`;
	const weights = Service.Weights ?? { Passing: 1, Warning: 1 };
	return { id, address, port: Service.Port, local: false, ...standing(Checks ?? [], weights) };
}

/** A dead node outweighs a failed check, and that a wish for maintenance, whose own check is critical too. */
function standing(checks: readonly Check[], weights: { Passing: number; Warning: number }): Pick<Instance, 'weight' | 'state' | 'reason'> {
	const critical = checks.filter((c) => c.Status === 'critical');
	const isWarning = checks.some((c) => c.Status === 'warning');
	const value = isWarning ? weights.Warning : weights.Passing;
	if (critical.some((c) => c.CheckID === 'serfHealth')) return { weight: value, state: 'down', reason: 'node-failed' };
	if (critical.some((c) => !isMaintenance(c))) return { weight: value, state: 'down', reason: 'check-failed' };
	if (critical.length > 0) return { weight: value, state: 'draining', reason: 'maintenance' };
	if (value === 0) return { weight: 0, state: 'draining', reason: 'weight-zero' };
	return { weight: value, state: 'active', reason: isWarning ? 'warning' : 'passing' };
}

function isMaintenance({ CheckID }: Check): boolean {
	return CheckID === '_node_maintenance' || CheckID.startsWith('_service_maintenance:');
}

/** The identity of an entry that may be malformed otherwise. */
function identityOf(raw: unknown): string | undefined {
	const identity = named.safeParse(raw);
	return identity.success ? instanceId(identity.data.Node.Node, identity.data.Service.ID) : undefined;
}
