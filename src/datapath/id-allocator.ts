// SPDX-License-Identifier: Apache-2.0
// Dense ids from 1, for backends, vips and pools. An id that is given back is quarantined: it becomes free only
// when the owner has proven that nothing in the kernel can still mean its old bearer (a grace period, then a sweep
// of the flow table). Freed ids are handed out again oldest first, so that reuse comes as late as possible.
import { XdpilotError } from '../errors.ts';

type IdState = 'used' | 'retired';

export class IdAllocator {
	readonly #capacity: number;
	readonly #what: string;
	readonly #state = new Map<number, IdState>();
	/** Freed ids, oldest first; a Set keeps insertion order and lets claim() take one out of the middle. */
	readonly #free = new Set<number>();
	/** Ids from here on have never been used. */
	#next = 1;

	/** `capacity` ids: 1..capacity. `what` names the thing in error messages. */
	constructor(capacity: number, what: string) {
		this.#capacity = capacity;
		this.#what = what;
	}

	/** Ids that are used or quarantined. */
	get occupied(): number {
		return this.#state.size;
	}

	/** @throws XdpilotError E_LIMIT when all ids are used or quarantined */
	take(): number {
		const id = this.#next <= this.#capacity ? this.#next++ : this.#oldestFree();
		this.#state.set(id, 'used');
		return id;
	}

	/** Marks an id as used that was found in the maps. @throws XdpilotError E_DATAPATH when it is out of range or taken */
	claim(id: number): void {
		if (!Number.isInteger(id) || id < 1 || id > this.#capacity || this.#state.has(id)) {
			throw new XdpilotError('E_DATAPATH', `${this.#what} id ${id} is out of range 1..${this.#capacity} or taken twice`);
		}
		for (; this.#next <= id; this.#next++) this.#free.add(this.#next);
		this.#free.delete(id);
		this.#state.set(id, 'used');
	}

	/** Puts a used id into quarantine; one that is there already stays. */
	retire(id: number): void {
		if (!this.#state.has(id)) throw new XdpilotError('E_INTERNAL', `${this.#what} id ${id} is not in use`);
		this.#state.set(id, 'retired');
	}

	/** Ends the quarantine of an id: it may be handed out again, after all that were freed before it. */
	release(id: number): void {
		if (this.#state.get(id) !== 'retired') throw new XdpilotError('E_INTERNAL', `${this.#what} id ${id} is not in quarantine`);
		this.#state.delete(id);
		this.#free.add(id);
	}

	#oldestFree(): number {
		const [id] = this.#free;
		if (id === undefined) {
			throw new XdpilotError('E_LIMIT', `all ${this.#capacity} ${this.#what} ids are in use or in quarantine`, {
				unaffected: 'everything that already forwards goes on',
			});
		}
		this.#free.delete(id);
		return id;
	}
}
