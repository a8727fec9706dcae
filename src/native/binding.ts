// SPDX-License-Identifier: Apache-2.0
// The only file that loads the native addon. Loading is a call, not an import, so that commands which touch no kernel
// (`check`, `--help`) work where the addon was never built. Node caches the module: a second call costs nothing.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { messageOf, XdpilotError } from '../errors.ts';
import type * as binding from './addon.d.ts';

/** Everything that addon.d.ts describes. */
export type NativeAddon = typeof binding;

/** Where the addon is looked for: $XDPILOT_NATIVE, else the build folder of this package (from src/ and from dist/). */
export function nativePath(): string {
	return process.env.XDPILOT_NATIVE ?? fileURLToPath(new URL('../../native/build/Release/xdpilot.node', import.meta.url));
}

/**
 * Loads the addon.
 * @throws XdpilotError E_NATIVE, with the command that mends it
 */
export function loadNative(): NativeAddon {
	const path = nativePath();
	if (!existsSync(path)) {
		throw new XdpilotError('E_NATIVE', `the native addon is not at ${path}`, { hint: 'build it: npm run setup' });
	}
	try {
		return createRequire(import.meta.url)(path) as NativeAddon;
	} catch (e) {
		throw new XdpilotError('E_NATIVE', `the native addon does not load: ${messageOf(e)}`, { cause: e, hint: mendFor(messageOf(e)) });
	}
}

function mendFor(message: string): string {
	return message.includes('libbpf') ? 'install libbpf 1.1 or later: apt-get install libbpf1' : 'build it again: npm run setup';
}
