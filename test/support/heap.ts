// SPDX-License-Identifier: Apache-2.0
// The heap after a full collection, for tests that look for leaks.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** Bytes that are reachable now. */
export async function reachableBytes(): Promise<number> {
	for (let i = 0; i < 3; i++) {
		// Finalisers and closed handles are let go of between turns of the event loop.
		await new Promise((resolve) => setImmediate(resolve));
		collect();
	}
	return process.memoryUsage().heapUsed;
}
