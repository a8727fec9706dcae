// SPDX-License-Identifier: Apache-2.0
// A change as `plan --json` prints it: stable keys, however the plan names things inside.
import { type Vip, vipKey } from '../model/vip.ts';
import type { Change } from '../reconcile/change.ts';
import { describeChange } from '../reconcile/describe.ts';

export function changeJson(change: Change): Record<string, unknown> {
	return { kind: change.kind, ...details(change), text: describeChange(change) };
}

function details(change: Change): Record<string, unknown> {
	switch (change.kind) {
		case 'pool-add':
		case 'pool-remove':
			return { pool: change.pool };
		case 'backend-add':
			return { pool: change.pool, backend: change.put.address, state: change.put.state, encap: change.put.encap };
		case 'backend-state':
			return { pool: change.pool, backend: change.put.address, state: change.put.state, was: change.was.state };
		case 'backend-remove':
			return { pool: change.pool, backend: change.address };
		case 'ring-swap': {
			const { ring, joins, leaves, reweighted } = change;
			return { pool: change.pool, hash: ring.hash, members: ring.members, joins, leaves, reweighted };
		}
		case 'server-ids':
			return { ids: [...change.ids].map(([id, backend]) => ({ id, backend })), encap: change.encap };
		case 'vip-add':
		case 'vip-remove':
			return vipJson(change.vip);
		case 'vip-change':
			return { ...vipJson(change.vip), was: vipJson(change.was) };
		default:
			return unreachable(change);
	}
}

function vipJson(vip: Vip): Record<string, unknown> {
	return { vip: vipKey(vip), pool: vip.pool, flags: vip.flags };
}

function unreachable(change: never): never {
	throw new TypeError(`no such change: ${JSON.stringify(change)}`);
}
