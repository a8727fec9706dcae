// SPDX-License-Identifier: Apache-2.0
// Runs a piece of a test or bench inside a network namespace: what it starts and connects to lives there, bpffs stays
// visible.
import { closeSync, openSync } from 'node:fs';
import { loadNative } from '../../src/native/binding.ts';

/** Moves this thread into the namespace at `path`, and back when `work` has ended. Children started meanwhile are inside. */
export async function inNamespace<T>(path: string, work: () => Promise<T>): Promise<T> {
	const native = loadNative();
	const home = openSync('/proc/thread-self/ns/net', 'r');
	try {
		native.enterNetns(path);
		return await work();
	} finally {
		native.enterNetns(`/proc/self/fd/${home}`);
		closeSync(home);
	}
}
