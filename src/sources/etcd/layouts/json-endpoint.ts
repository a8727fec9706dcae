// SPDX-License-Identifier: Apache-2.0
// The value is a JSON object: plain `{"address","port","weight"}`, etcd's own gRPC naming `{"Op","Addr","Metadata"}`,
// or Kitex `{"network","address","weight","tags"}`. Field names are compared without case; unknown ones are ignored,
// since registries add fields at will.
import { parseAddress } from '../../../model/address.ts';
import { MAX_WEIGHT } from '../../../model/backend.ts';
import { quote } from '../../foreign-text.ts';
import { decodeHostPort } from './host-port.ts';
import { type Decoded, isRefused } from './layout.ts';

type Fields = ReadonlyMap<string, unknown>;

const STATES = ['active', 'draining', 'down'] as const;

/** Reads the text of one JSON object. */
export function decodeJson(text: string): Decoded {
	let value: unknown;
	try {
		value = JSON.parse(text);
	} catch {
		return { refused: 'the value is not valid JSON' };
	}
	if (typeof value === 'string') return decodeHostPort(value);
	const fields = fieldsOf(value);
	if (fields === undefined) return { refused: 'the value is not a JSON object' };
	if (fields.get('op') === 1 || fields.get('op') === 'Delete') return { refused: 'it is marked as deleted (Op)' };
	const endpoint = endpointOf(fields);
	if (isRefused(endpoint)) return endpoint;
	const weight = weightOf(fields);
	if (typeof weight === 'string') return { refused: weight };
	const state = STATES.find((s) => s === (fields.get('state') ?? 'active'));
	if (state === undefined) return { refused: `state ${quote(String(fields.get('state')))} is none of ${STATES.join(', ')}` };
	return { ...endpoint, weight, state };
}

function endpointOf(fields: Fields): Decoded {
	const text = first(fields, 'address', 'addr', 'host', 'ip');
	if (typeof text !== 'string') return { refused: 'no address, addr or host' };
	const port = fields.get('port');
	if (port === undefined) return decodeHostPort(text);
	const number = wholeNumber(port);
	if (number === undefined || number > 65_535) return { refused: `port ${quote(String(port))} is not a port` };
	const address = parseAddress(text);
	if (address !== undefined) return { address, port: number, weight: 1, state: 'active' };
	const both = decodeHostPort(text);
	if (isRefused(both)) return both;
	return both.port === number ? both : { refused: `the address says port ${both.port}, the field port ${number}` };
}

/** The weight, or why there is none. */
function weightOf(fields: Fields): number | string {
	const nested = fieldsOf(fields.get('metadata')) ?? fieldsOf(fields.get('tags'));
	const stated = fields.get('weight') ?? nested?.get('weight') ?? 1;
	const weight = wholeNumber(stated);
	if (weight === undefined || weight > MAX_WEIGHT) return `weight ${quote(String(stated))} is not a whole number from 0 to ${MAX_WEIGHT}`;
	return weight;
}

/** Metadata of many registries is all strings. */
function wholeNumber(value: unknown): number | undefined {
	const number = typeof value === 'string' && /^\d{1,9}$/.test(value) ? Number(value) : value;
	return typeof number === 'number' && Number.isInteger(number) && number >= 0 ? number : undefined;
}

function first(fields: Fields, ...names: string[]): unknown {
	return names.map((name) => fields.get(name)).find((value) => value !== undefined);
}

function fieldsOf(value: unknown): Fields | undefined {
	if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
	return new Map(Object.entries(value).map(([key, v]) => [key.toLowerCase(), v]));
}
