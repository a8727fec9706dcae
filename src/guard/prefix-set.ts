// SPDX-License-Identifier: Apache-2.0
// A set of address prefixes that is asked often: thousands of instances a snapshot, a dozen prefixes each.
// Compared as mapped bytes; an IPv4 address is never inside an IPv6 prefix, not even ::/0.
import { type Address, familyOf, mappedBytes, type Prefix } from '../model/address.ts';

interface Compiled<T> {
	readonly isV4: boolean;
	readonly bytes: Uint8Array;
	/** Bits of the mapped form. */
	readonly length: number;
	readonly value: T;
}

/** Prefixes, each with a value; the first that contains an address wins. */
export class PrefixSet<T> {
	readonly #entries: readonly Compiled<T>[];

	constructor(entries: Iterable<readonly [Prefix, T]>) {
		this.#entries = [...entries].map(([prefix, value]) => {
			const isV4 = familyOf(prefix.address) === 4;
			return { isV4, bytes: mappedBytes(prefix.address), length: prefix.length + (isV4 ? 96 : 0), value };
		});
	}

	find(a: Address): T | undefined {
		const isV4 = familyOf(a) === 4;
		const bytes = mappedBytes(a);
		return this.#entries.find((e) => e.isV4 === isV4 && sharesBits(e.bytes, bytes, e.length))?.value;
	}
}

function sharesBits(a: Uint8Array, b: Uint8Array, bits: number): boolean {
	const whole = bits >> 3;
	for (let i = 0; i < whole; i++) if (a[i] !== b[i]) return false;
	const rest = bits & 7;
	return rest === 0 || (((a[whole] ?? 0) ^ (b[whole] ?? 0)) & (0xff00 >> rest) & 0xff) === 0;
}
