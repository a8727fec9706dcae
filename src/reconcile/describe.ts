// SPDX-License-Identifier: Apache-2.0
// One sentence for each change, for `plan`, the log and `status`.
import type { Address } from '../model/address.ts';
import { type Vip, vipKey } from '../model/vip.ts';
import type { BackendState, Change, RingSwapChange } from './change.ts';

/** What a change will do, as an order: "pool web: add backend 10.0.0.4 (active)". */
export function describeChange(change: Change): string {
	switch (change.kind) {
		case 'pool-add':
			return `pool ${change.pool}: create it`;
		case 'backend-add':
			return `pool ${change.pool}: add backend ${change.put.address} (${change.put.state})`;
		case 'backend-state':
			return `pool ${change.pool}: ${describeState(change)}`;
		case 'ring-swap':
			return `pool ${change.pool}: ${describeRing(change)}`;
		case 'server-ids':
			return `server ids: ${change.ids.size} in all`;
		case 'vip-add':
			return `vip ${vipKey(change.vip)}: serve it from pool ${change.vip.pool}${flagText(change.vip)}`;
		case 'vip-change':
			return `vip ${vipKey(change.vip)}: ${describeVipChange(change.vip, change.was)}`;
		case 'vip-remove':
			return `vip ${vipKey(change.vip)}: stop serving it`;
		case 'backend-remove':
			return `pool ${change.pool}: remove backend ${change.address}`;
		case 'pool-remove':
			return `pool ${change.pool}: remove it`;
		default:
			return unreachable(change);
	}
}

/** What happened to one pool, in a few words: "10.0.0.4 added, 10.0.0.2 down". */
export function summarize(changes: readonly Change[]): string {
	const parts = changes.flatMap((c) => {
		if (c.kind === 'backend-add') return `${c.put.address} added${c.put.state === 'active' ? '' : ` (${c.put.state})`}`;
		if (c.kind === 'backend-state') return c.put.state === c.was.state ? `${c.put.address} changed` : `${c.put.address} ${c.put.state}`;
		if (c.kind === 'backend-remove') return `${c.address} removed`;
		if (c.kind === 'ring-swap' && c.reweighted.length > 0) return `${list(c.reweighted)} reweighted`;
		return [];
	});
	const shown = parts.length > 6 ? [...parts.slice(0, 5), `${parts.length - 5} more`] : parts;
	return shown.length > 0 ? shown.join(', ') : changes.some((c) => c.kind === 'ring-swap') ? 'ring rebuilt' : '';
}

function describeState({ put, was }: BackendState): string {
	const parts = [
		...(put.state === was.state ? [] : [`${was.state} -> ${put.state}`]),
		...(put.encap === was.encap ? [] : [`${was.encap} -> ${put.encap}`]),
		...(put.local === was.local ? [] : [put.local ? 'now local' : 'no longer local']),
	];
	return `backend ${put.address} ${parts.join(', ')}`;
}

function describeRing({ ring, wasHash, joins, leaves, reweighted }: RingSwapChange): string {
	const parts = [
		...(joins.length > 0 ? [`${list(joins)} ${joins.length === 1 ? 'joins' : 'join'}`] : []),
		...(leaves.length > 0 ? [`${list(leaves)} ${leaves.length === 1 ? 'leaves' : 'leave'}`] : []),
		...(reweighted.length > 0 ? [`${list(reweighted)} with another weight`] : []),
		...(wasHash !== null && wasHash !== ring.hash ? [`${wasHash} -> ${ring.hash}`] : []),
	];
	const count = `${ring.members.length} ${ring.members.length === 1 ? 'backend' : 'backends'}`;
	return `swap the ring (${[count, ...parts].join('; ')})`;
}

function describeVipChange(vip: Vip, was: Vip): string {
	const parts = [
		...(vip.pool === was.pool ? [] : [`from pool ${was.pool} to pool ${vip.pool}`]),
		...(vip.flags.join() === was.flags.join() ? [] : [`flags [${was.flags.join(', ')}] -> [${vip.flags.join(', ')}]`]),
	];
	return `change it ${parts.join(', ')}`;
}

function flagText(vip: Vip): string {
	return vip.flags.length === 0 ? '' : ` (${vip.flags.join(', ')})`;
}

function list(addresses: readonly Address[]): string {
	return addresses.length > 4 ? `${addresses.slice(0, 3).join(', ')} and ${addresses.length - 3} more` : addresses.join(', ');
}

function unreachable(change: never): never {
	throw new TypeError(`unknown change ${JSON.stringify(change)}`);
}
