// SPDX-License-Identifier: Apache-2.0
// A flow as text: "10.0.0.1:4000" and "203.0.113.10:443/tcp" on the command line, a query string on the control socket.
import type { Flow } from '../datapath/datapath.ts';
import { XdpilotError } from '../errors.ts';
import { type Address, familyOf, parseAddress } from '../model/address.ts';

/** Parses `SRC:PORT` and `DST:PORT/PROTO`; IPv6 addresses in brackets. @throws XdpilotError E_USAGE */
export function parseFlow(source: string, dest: string): Flow {
	const [, target = '', protocol = ''] = /^(.*)\/(\w+)$/.exec(dest) ?? [];
	if (protocol !== 'tcp' && protocol !== 'udp') throw usage(`${quote(dest)} does not end in /tcp or /udp`);
	const from = parseEndpoint(source);
	const to = parseEndpoint(target);
	return sameFamily({ source: from.address, sourcePort: from.port, dest: to.address, destPort: to.port, protocol });
}

/** The same from the control socket's query string. @throws XdpilotError E_USAGE */
export function parseFlowQuery(query: URLSearchParams): Flow {
	return parseFlow(query.get('source') ?? '', query.get('dest') ?? '');
}

/** The query string that parseFlowQuery reads. */
export function flowQuery(source: string, dest: string): string {
	return new URLSearchParams({ source, dest }).toString();
}

function parseEndpoint(text: string): { address: Address; port: number } {
	const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text) ?? [];
	const address = parseAddress(bracketed ?? plain ?? '');
	const port = Number(digits);
	const isBracketed6 = bracketed !== undefined && address !== undefined && bracketed.includes(':');
	if (address === undefined || !(port >= 0 && port <= 65_535) || (bracketed !== undefined && !isBracketed6)) {
		throw usage(`${quote(text)} is not ADDRESS:PORT, such as 192.0.2.7:40000 or [2001:db8::7]:40000`);
	}
	return { address, port };
}

function sameFamily(flow: Flow): Flow {
	if (familyOf(flow.source) === familyOf(flow.dest)) return flow;
	throw usage(`a flow from IPv${familyOf(flow.source)} to IPv${familyOf(flow.dest)} can not exist`);
}

function usage(message: string): XdpilotError {
	return new XdpilotError('E_USAGE', message, { hint: 'xdpilot why 192.0.2.7:40000 203.0.113.10:443/tcp' });
}

function quote(text: string): string {
	return JSON.stringify(text.length > 80 ? `${text.slice(0, 77)}...` : text);
}
