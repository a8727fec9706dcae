// SPDX-License-Identifier: Apache-2.0
// The text of a services file: which instances it declares, which entries are refused and why. Strict: an unknown
// key is named. A bad entry is refused alone, a bad service alone; only a text that can't be read is refused whole.
import { z } from 'zod';
import { type ParsedDocument, parseText } from '../../config/document.ts';
import { XdpilotError } from '../../errors.ts';
import { type Address, parseAddress } from '../../model/address.ts';
import { MAX_WEIGHT } from '../../model/backend.ts';
import type { Instance, RejectedInstance } from '../../model/snapshot.ts';
import { formatEndpoint } from '../../model/vip.ts';

export interface DeclaredService {
	readonly instances: readonly Instance[];
	readonly rejected: readonly RejectedInstance[];
}

/** What the file says of a service: its entries, or why they can't be read. */
export type Declaration = DeclaredService | { readonly error: string };

const entrySchema = z.strictObject(
	{
		address: z.string({ error: 'address must be an IP address' }).transform((text, context): Address => {
			const parsed = parseAddress(text);
			if (parsed !== undefined) return parsed;
			context.addIssue({ code: 'custom', message: `${JSON.stringify(text)} is not an IP address` });
			return z.NEVER;
		}),
		port: z.int().min(0).max(65_535).default(0),
		weight: z.int().min(0).max(MAX_WEIGHT).default(1),
		local: z.boolean().default(false),
		state: z.enum(['active', 'draining', 'down']).default('active'),
	},
	{ error: (issue) => (issue.code === 'invalid_type' ? 'must be a mapping with at least the key address' : undefined) },
);

/** Parses a services file. @throws XdpilotError E_SOURCE when nothing in it can be used */
export function parseServices(text: string): Map<string, Declaration> {
	const document = parseText(text);
	const [syntax] = document.syntax;
	if (syntax !== undefined) throw unusable(`line ${syntax.line}: ${syntax.problem}`);
	const { value } = document;
	if (value === null || value === undefined) throw unusable('it is empty');
	if (!isMapping(value)) throw unusable('line 1: expected the key services');
	const unknown = Object.keys(value).filter((key) => key !== 'services');
	if (unknown.length > 0) {
		const places = unknown.map((key) => `line ${lineOf(document, [key])}: unknown key ${JSON.stringify(key)}`);
		throw unusable(`${places.join('; ')}; the only key here is services`);
	}
	const services: unknown = Object.hasOwn(value, 'services') ? value.services : undefined;
	if (!isMapping(services)) throw unusable(`line ${lineOf(document, ['services'])}: services must map names to lists`);
	return new Map(Object.entries(services).map(([name, entries]) => [name, declare(document, name, entries)]));
}

function declare(document: ParsedDocument, service: string, entries: unknown): Declaration {
	if (!Array.isArray(entries)) return { error: `line ${lineOf(document, ['services', service])}: services.${service} must be a list` };
	const instances = new Map<string, Instance>();
	const lines = new Map<string, number>();
	const rejected: RejectedInstance[] = [];
	for (const [i, entry] of entries.entries()) {
		const line = lineOf(document, ['services', service, i]);
		const reject = (reason: string) => rejected.push({ instance: nameOf(entry) ?? `${service}[${i}]`, reason: `line ${line}: ${reason}` });
		const parsed = entrySchema.safeParse(entry);
		if (!parsed.success) {
			reject(parsed.error.issues.map(wording).join('; '));
			continue;
		}
		const instance = toInstance(parsed.data);
		if (instances.has(instance.id)) reject(`${instance.id} stands already in line ${lines.get(instance.id)}`);
		else {
			instances.set(instance.id, instance);
			lines.set(instance.id, line);
		}
	}
	return { instances: [...instances.values()], rejected };
}

/** Identity is the endpoint, not the place in the list: inserting a line renames nobody. */
function toInstance(entry: z.output<typeof entrySchema>): Instance {
	const { address, port, weight, local } = entry;
	const isDrained = weight === 0 && entry.state === 'active';
	return {
		id: endpointId(address, port),
		address,
		port,
		weight,
		state: isDrained ? 'draining' : entry.state,
		reason: isDrained ? 'weight-zero' : 'declared',
		local,
	};
}

function endpointId(address: Address, port: number): string {
	return port === 0 ? address : formatEndpoint(address, port);
}

/** The identity that a refused entry would have had, where it can be told: it ties the refusal to the backend that it hits. */
function nameOf(entry: unknown): string | undefined {
	if (!isMapping(entry) || typeof entry.address !== 'string') return undefined;
	const address = parseAddress(entry.address);
	const port = Number.isInteger(entry.port) ? Number(entry.port) : 0;
	return address === undefined ? undefined : endpointId(address, port);
}

function wording(issue: z.core.$ZodIssue): string {
	if (issue.code === 'unrecognized_keys') return `unknown key ${issue.keys.map((k) => JSON.stringify(k)).join(', ')}`;
	return issue.path.length === 0 || issue.code === 'custom' ? issue.message : `${issue.path.join('.')}: ${issue.message}`;
}

function lineOf(document: ParsedDocument, path: readonly (string | number)[]): number {
	return document.locate({ path: [...path], at: 'key' }).line;
}

function isMapping(value: unknown): value is Readonly<Record<string, unknown>> {
	return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function unusable(problem: string): XdpilotError {
	return new XdpilotError('E_SOURCE', `the services file can't be used: ${problem}`, {
		unaffected: 'what it said before is kept',
	});
}
