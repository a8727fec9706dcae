// SPDX-License-Identifier: Apache-2.0
// Which instances of a snapshot may become backends, and a sentence for each that may not. Pure, and independent of
// order: the same instances in any order admit the same backends, so that all members of a fleet agree.
import { type Address, familyOf, type Prefix, sortedByAddress } from '../model/address.ts';
import type { Instance, RejectedInstance } from '../model/snapshot.ts';
import type { Vip } from '../model/vip.ts';
import { DenyList, type OwnAddress } from './deny.ts';
import { PrefixSet } from './prefix-set.ts';

/** What every pool shares: the configuration's allow list, the host's addresses and all vips. */
export interface AdmissionFacts {
	readonly allowed: readonly Prefix[] | 'any';
	readonly own: readonly OwnAddress[];
	readonly vips: readonly Vip[];
	readonly maxBackends: number;
}

export interface Admitted {
	/** By address, sorted by address. */
	readonly instances: ReadonlyMap<Address, Instance>;
	/** Sorted by instance. */
	readonly rejected: readonly RejectedInstance[];
}

/** Admits the instances of any pool. Built once for a configuration and the host's addresses. */
export class Admission {
	readonly #allowed: PrefixSet<true> | undefined;
	readonly #denied: DenyList;
	readonly #maxBackends: number;
	readonly #ports = new Map<string, Set<number>>();
	readonly #localPools: ReadonlySet<string>;
	/** Pools with an IPv4 vip. A pool of IPv6 vips alone has no use for IPv4 backends: nothing carries IPv6 to them. */
	readonly #ipv4Pools: ReadonlySet<string>;

	constructor(facts: AdmissionFacts) {
		this.#allowed = facts.allowed === 'any' ? undefined : new PrefixSet(facts.allowed.map((p) => [p, true] as const));
		this.#denied = new DenyList(facts.own, facts.vips);
		this.#maxBackends = facts.maxBackends;
		this.#localPools = new Set(facts.vips.filter((v) => v.flags.includes('local')).map((v) => v.pool));
		this.#ipv4Pools = new Set(facts.vips.filter((v) => familyOf(v.prefix.address) === 4).map((v) => v.pool));
		for (const vip of facts.vips) {
			const ports = this.#ports.get(vip.pool) ?? new Set();
			this.#ports.set(vip.pool, ports.add(vip.port));
		}
	}

	admit(pool: string, instances: readonly Instance[]): Admitted {
		const admitted = new Map<Address, Instance>();
		const rejected: RejectedInstance[] = [];
		for (const instance of inTurn(instances)) {
			const reason = this.#refusal(pool, instance, admitted);
			if (reason === undefined) admitted.set(instance.address, instance);
			else rejected.push({ instance: instance.id, reason });
		}
		return { instances: admitted, rejected: rejected.sort((a, b) => (a.instance < b.instance ? -1 : 1)) };
	}

	/** Why this address can't be a backend, or undefined. A full sentence. */
	addressRefusal(pool: string, address: Address, local: boolean): string | undefined {
		const denied = this.#denied.reason(address, local && this.#localPools.has(pool));
		if (denied !== undefined) return `${address} ${denied}`;
		if (this.#allowed !== undefined && this.#allowed.find(address) === undefined) return `${address} is outside allowed_backends`;
		return undefined;
	}

	#refusal(pool: string, instance: Instance, admitted: ReadonlyMap<Address, Instance>): string | undefined {
		const ports = this.#ports.get(pool);
		if (instance.port !== 0 && ports !== undefined && !ports.has(0) && !ports.has(instance.port)) {
			return `port ${instance.port} is not the port of a vip of this pool (${[...ports].sort((a, b) => a - b).join(', ')}), and direct server return can't change ports`;
		}
		const refusal = this.addressRefusal(pool, instance.address, instance.local);
		if (refusal !== undefined) return refusal;
		if (ports !== undefined && !this.#ipv4Pools.has(pool) && familyOf(instance.address) === 4) {
			return `${instance.address} is IPv4 and every vip of this pool is IPv6: IPv6 packets need IPv6 backends`;
		}
		const first = admitted.get(instance.address);
		if (first !== undefined) return `${instance.address} is already in this pool as ${first.id}`;
		if (admitted.size >= this.#maxBackends) {
			return `the pool has ${this.#maxBackends} backends already (datapath.max_backends_per_pool), those with the lowest addresses`;
		}
		return undefined;
	}
}

/** By address; of instances that share one, the one that takes flows comes first: a dead twin must not take a living one's place. */
function inTurn(instances: readonly Instance[]): Instance[] {
	const rank = (i: Instance) => (i.state === 'active' ? 0 : i.state === 'draining' ? 1 : 2);
	const byRankThenId = [...instances].sort((a, b) => rank(a) - rank(b) || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
	return sortedByAddress(byRankThenId, (i) => i.address);
}
