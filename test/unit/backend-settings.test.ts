// SPDX-License-Identifier: Apache-2.0
// What the backend agent asks of a host's settings, and what it keeps on disk about it.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type BackendState, StateFile } from '../../src/backend-agent/state.ts';
import { neededSysctls } from '../../src/backend-agent/sysctls.ts';
import { address } from '../../src/model/address.ts';

test('changes only settings that are not strict or loose enough already', () => {
	const changes = (facts: Parameters<typeof neededSysctls>[1]) =>
		neededSysctls('eth0', facts).map((c) => `${c.name.replace('/proc/sys/net/ipv4/conf/', '')} ${c.before}>${c.after}`);
	const none = { arpIgnoreAll: 0, arpAnnounceAll: 0, rpFilterAll: 0, rpFilterOwn: 0 };
	assert.deepEqual(changes(none), ['all/arp_ignore 0>1', 'all/arp_announce 0>2']);
	assert.deepEqual(changes({ arpIgnoreAll: 2, arpAnnounceAll: 2, rpFilterAll: 2, rpFilterOwn: 1 }), []);
	const strict = ['eth0/rp_filter 0>2'];
	assert.deepEqual(changes({ arpIgnoreAll: 1, arpAnnounceAll: 2, rpFilterAll: 1, rpFilterOwn: 0 }), strict);
	assert.deepEqual(changes({ arpIgnoreAll: 1, arpAnnounceAll: 2, rpFilterAll: 0, rpFilterOwn: 1 }), ['eth0/rp_filter 1>2']);
});

test('a state file gives back what was written, is absent before, and refuses damage', async (t) => {
	const folder = mkdtempSync(join(tmpdir(), 'xdpilot-unit-'));
	t.after(() => rmSync(folder, { recursive: true, force: true }));
	const file = new StateFile(join(folder, 'deeper', 'state.json'));
	assert.equal(await file.read(), undefined);
	const state: BackendState = {
		version: 1,
		interface: 'eth0',
		pinPath: '/sys/fs/bpf/x',
		vips: [address('203.0.113.10')],
		sysctls: [{ name: '/proc/sys/net/ipv4/conf/all/arp_ignore', before: '0', after: '1' }],
		routes: [{ family: 4, kind: 'replaced', route: ['default', 'via', '10.0.0.1'], advmss: 1420, previous: null }],
	};
	await file.write(state);
	assert.deepEqual(await file.read(), state);
	for (const damage of ['', '{', '{"version":2}', JSON.stringify({ ...state, vips: ['nonsense'] })]) {
		writeFileSync(file.path, damage);
		await assert.rejects(file.read(), { code: 'E_HOST', message: /is damaged/ });
	}
	await file.remove();
	assert.equal(await file.read(), undefined);
});
