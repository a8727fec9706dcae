// SPDX-License-Identifier: Apache-2.0
// The value is `host:port` in plain text (go-zero, registrator, many scripts), or an address alone. Names are
// refused: a load balancer that resolves them would forward to whatever a resolver says.
import { parseAddress } from '../../../model/address.ts';
import { quote } from '../../foreign-text.ts';
import type { Decoded } from './layout.ts';

const BRACKETED = /^\[([^\]]*)\](?::(\d{1,5}))?$/;
const PLAIN = /^([^:]*):(\d{1,5})$/;

/** Reads `10.0.0.1:80`, `[fd00::1]:80`, `10.0.0.1` or `fd00::1`; the weight is 1. */
export function decodeHostPort(text: string): Decoded {
	const bare = parseAddress(text);
	if (bare !== undefined) return { address: bare, port: 0, weight: 1, state: 'active' };
	const [, host, digits = '0'] = BRACKETED.exec(text) ?? PLAIN.exec(text) ?? [];
	if (host === undefined) return { refused: `${quote(text)} is neither an IP address nor address:port` };
	const address = parseAddress(host);
	if (address === undefined) return { refused: `${quote(host)} is not an IP address` };
	if (Number(digits) > 65_535) return { refused: `${digits} is not a port` };
	return { address, port: Number(digits), weight: 1, state: 'active' };
}
