// SPDX-License-Identifier: Apache-2.0
// How a registry on etcd writes its endpoints: where the keys of a service lie, and what one key and value mean.
// One file per layout; a layout decides about one entry at a time and never throws.
import type { Address } from '../../../model/address.ts';
import type { BackendState } from '../../../model/backend.ts';

/** What an entry says. */
export interface Endpoint {
	readonly address: Address;
	/** 0 = not stated. */
	readonly port: number;
	readonly weight: number;
	readonly state: BackendState;
}

export type Decoded = Endpoint | { readonly refused: string };

export interface Layout {
	/** Prefix of exactly this service's keys: it ends at a boundary, so that `web` is not also `web2`. */
	servicePrefix(root: string, service: string): string;
	/** @param rest the key behind servicePrefix() */
	decode(rest: string, value: Buffer): Decoded;
}

export function isRefused(decoded: Decoded): decoded is { readonly refused: string } {
	return 'refused' in decoded;
}
