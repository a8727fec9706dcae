// SPDX-License-Identifier: Apache-2.0
// A named set of backends and how they are balanced.
import type { Backend } from './backend.ts';
import type { Vip } from './vip.ts';

export type HashFunction = 'maglev-v1' | 'maglev-v2';
export type Encap = 'ipip' | 'gue';

export interface Pool {
	readonly name: string;
	readonly hash: HashFunction;
	readonly encap: Encap;
	/** Sorted by address, each address once. */
	readonly backends: readonly Backend[];
}

/** What should be: the outcome of configuration, snapshots and guard. */
export interface DesiredState {
	readonly pools: ReadonlyMap<string, Pool>;
	/** By vipKey(). A vip whose pool has no backends stays: its drop is counted under its own reason. */
	readonly vips: ReadonlyMap<string, Vip>;
}
