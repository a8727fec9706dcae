// SPDX-License-Identifier: Apache-2.0
// Vips on lo: this host takes packets for them as its own, and announces them nowhere.
import { messageOf } from '../errors.ts';
import { runCommand } from '../host/command.ts';
import { type Address, familyOf } from '../model/address.ts';

/** @throws XdpilotError E_HOST */
export async function addVip(vip: Address): Promise<void> {
	await runCommand(['ip', 'address', 'add', ...vipOnLo(vip)]);
}

/** Never throws; says what became of it. */
export async function removeVip(vip: Address): Promise<string> {
	try {
		await runCommand(['ip', 'address', 'delete', `${vip}/${familyOf(vip) === 4 ? 32 : 128}`, 'dev', 'lo']);
		return `lo: ${vip} removed`;
	} catch (e) {
		return `lo: ${vip} not removed (${messageOf(e)})`;
	}
}

function vipOnLo(vip: Address): string[] {
	// Deprecated on purpose: answers carry a vip as their source, but the host's own connections must not.
	return familyOf(vip) === 4 ? [`${vip}/32`, 'dev', 'lo'] : [`${vip}/128`, 'dev', 'lo', 'nodad', 'preferred_lft', '0'];
}
