// SPDX-License-Identifier: Apache-2.0
// One server in one pool, as the data plane knows it.
import { type Address, compareAddresses } from './address.ts';

/** active takes new flows; draining keeps its existing ones only; down has none, its flows are rehashed. */
export type BackendState = 'active' | 'draining' | 'down';

export interface Backend {
	readonly address: Address;
	/** 0..65535; only an active backend with a weight above 0 is in the ring. */
	readonly weight: number;
	readonly state: BackendState;
	/** Delivered to this host's own stack when the vip has the flag `local`. */
	readonly local: boolean;
}

export const MAX_WEIGHT = 65535;

/** The members of the ring: active with weight above 0, sorted by address. */
export function ringMembers(backends: Iterable<Backend>): Backend[] {
	return [...backends].filter((b) => b.state === 'active' && b.weight > 0).sort((a, b) => compareAddresses(a.address, b.address));
}
