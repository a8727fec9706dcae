// SPDX-License-Identifier: Apache-2.0
// What the loop needs of a configuration, in its own terms: no file, no source object, no interface.
import type { Admission } from '../guard/admit.ts';
import type { GuardPolicy } from '../guard/guard.ts';
import type { Encap, HashFunction } from '../model/pool.ts';
import type { Vip } from '../model/vip.ts';
import type { Desired } from './desired.ts';
import type { Debounce } from './queue.ts';

export interface PoolSettings {
	readonly name: string;
	readonly source: string;
	readonly service: string;
	/** Identity of the whole query: two that are equal read the same backends. */
	readonly query: string;
	readonly hash: HashFunction;
	readonly encap: Encap;
	readonly guard: GuardPolicy;
	readonly debounce: Debounce;
}

export interface Settings {
	readonly pools: ReadonlyMap<string, PoolSettings>;
	readonly vips: readonly Vip[];
	/** null = this configuration has none and wants none written. */
	readonly serverIds: Desired['serverIds'];
	readonly admission: Admission;
}
