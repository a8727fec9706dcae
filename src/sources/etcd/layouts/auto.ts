// SPDX-License-Identifier: Apache-2.0
// The layout that needs no configuration: `<root><service>/<instance>`, the value JSON or host:port.
import { decodeHostPort } from './host-port.ts';
import { decodeJson } from './json-endpoint.ts';
import type { Decoded, Layout } from './layout.ts';

/** An endpoint takes a few hundred bytes; what is larger is something else. */
const MAX_VALUE_BYTES = 64 * 1024;

export const auto: Layout = {
	servicePrefix: (root, service) => `${root}${service}/`,
	decode(rest, value) {
		// A further slash: the key of a service `web/admin` lies below that of `web`.
		if (rest === '' || rest.includes('/')) return { refused: 'the key has not the form <prefix><service>/<instance>' };
		return decodeValue(value);
	},
};

function decodeValue(value: Buffer): Decoded {
	if (value.length > MAX_VALUE_BYTES) return { refused: `the value has ${value.length} bytes` };
	let text: string;
	try {
		text = new TextDecoder('utf-8', { fatal: true }).decode(value).trim();
	} catch {
		return { refused: 'the value is not UTF-8 text' };
	}
	if (text === '') return { refused: 'the value is empty' };
	return /^[{"]/.test(text) ? decodeJson(text) : decodeHostPort(text);
}
