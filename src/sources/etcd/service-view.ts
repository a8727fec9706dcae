// SPDX-License-Identifier: Apache-2.0
// The entries of one service as the registry has them, decoded once each. Invariant: after replace() and any number
// of apply(), it equals what a list at that revision would give.
import { isUtf8 } from 'node:buffer';
import type { IEvent, IKeyValue } from 'etcd3';
import type { Instance, RejectedInstance } from '../../model/snapshot.ts';
import { printable } from '../foreign-text.ts';
import { isRefused, type Layout } from './layouts/layout.ts';

/** The lease of an entry without one. */
export const NO_LEASE = '0';

type Entry = { readonly instance: Instance } | { readonly rejected: RejectedInstance };

export class ServiceView {
	readonly #layout: Layout;
	readonly prefix: Buffer;
	/** By id, that is, by key. */
	#entries = new Map<string, Entry>();
	/** Also of entries that are gone, until forget(). */
	readonly #leases = new Map<string, string>();

	constructor(layout: Layout, root: string, service: string) {
		this.#layout = layout;
		this.prefix = Buffer.from(layout.servicePrefix(root, service));
	}

	/** Takes a complete list. */
	replace(entries: readonly IKeyValue[]): void {
		this.#entries = new Map();
		for (const kv of entries) this.#put(kv);
	}

	/** Takes events in order; returns the ids that they deleted and did not bring back. */
	apply(events: readonly IEvent[]): Set<string> {
		const deleted = new Set<string>();
		for (const { type, kv } of events) {
			const id = keyText(kv.key);
			// With `enums: String` the type is the name in the protocol, PUT or DELETE, whatever the typings say.
			if (String(type).toLowerCase() === 'delete') {
				this.#entries.delete(id);
				deleted.add(id);
			} else {
				this.#put(kv);
				deleted.delete(id);
			}
		}
		return deleted;
	}

	/** Whether there is an entry, be it usable or not. */
	has(id: string): boolean {
		return this.#entries.has(id);
	}

	get size(): number {
		return this.#entries.size;
	}

	get instances(): Instance[] {
		return [...this.#entries.values()].flatMap((e) => ('instance' in e ? [e.instance] : []));
	}

	get rejected(): RejectedInstance[] {
		return [...this.#entries.values()].flatMap((e) => ('rejected' in e ? [e.rejected] : []));
	}

	/** The lease that an entry had last. */
	leaseOf(id: string): string {
		return this.#leases.get(id) ?? NO_LEASE;
	}

	/** Drops what is remembered of entries that are gone and not in `wanted`. */
	forget(wanted: ReadonlySet<string>): void {
		for (const id of this.#leases.keys()) if (!this.#entries.has(id) && !wanted.has(id)) this.#leases.delete(id);
	}

	#put(kv: IKeyValue): void {
		const id = keyText(kv.key);
		const decoded = this.#layout.decode(kv.key.subarray(this.prefix.length).toString('utf8'), kv.value);
		this.#leases.set(id, kv.lease);
		if (isRefused(decoded)) {
			this.#entries.set(id, { rejected: { instance: id, reason: decoded.refused } });
			return;
		}
		const isDrained = decoded.weight === 0 && decoded.state === 'active';
		const { address, port, weight } = decoded;
		const state = isDrained ? 'draining' : decoded.state;
		const reason = isDrained ? 'weight-zero' : 'declared';
		this.#entries.set(id, { instance: { id, address, port, weight, state, reason, local: false } });
	}
}

/** A key as text: itself when it is text, else its bytes. Different keys have different texts. */
function keyText(key: Buffer): string {
	const text = isUtf8(key) ? key.toString('utf8') : undefined;
	return text === undefined || text.startsWith('0x') ? `0x${key.toString('hex')}` : printable(text);
}
