// SPDX-License-Identifier: Apache-2.0
// Which vip flags exclude each other, and which need UDP. What each flag does: docs/configuration.md.
import type { VipFlag } from '../model/vip.ts';
import type { Finding } from './issues.ts';
import { childOf, type KeyPath } from './key-tree.ts';

const UDP_ONLY: readonly VipFlag[] = ['quic', 'udp_stable_routing', 'udp_flow_migration'];

const EXCLUSIVE: readonly (readonly [VipFlag, VipFlag, string])[] = [
	['hash_dest_port_only', 'hash_source_dest_port', 'one hashes the destination port alone, the other both ports'],
	['quic', 'udp_stable_routing', 'each reads another kind of server id from the same bytes'],
];

/** `entry` is one vip as written; what the schema refuses is skipped. */
export function flagFindings(entry: unknown, path: KeyPath): Finding[] {
	const written = childOf(entry, 'flags');
	const flags: readonly unknown[] = Array.isArray(written) ? written : [];
	const findings: Finding[] = [];
	for (const [i, flag] of flags.entries()) {
		const at = { path: [...path, 'flags', i], at: 'value' } as const;
		if (flags.indexOf(flag) < i) findings.push({ ...at, problem: `has ${String(flag)} a second time`, expected: 'each flag once' });
		else if (childOf(entry, 'protocol') === 'tcp' && UDP_ONLY.some((name) => name === flag)) {
			findings.push({ ...at, problem: `got ${String(flag)} on a tcp vip`, expected: 'protocol: udp with this flag' });
		}
	}
	for (const [a, b, why] of EXCLUSIVE) {
		if (!flags.includes(a) || !flags.includes(b)) continue;
		findings.push({ path: [...path, 'flags'], at: 'value', problem: `has both ${a} and ${b}`, expected: `one of them: ${why}` });
	}
	return findings;
}
