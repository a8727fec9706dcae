// SPDX-License-Identifier: Apache-2.0
// What status and why make of the daemon's state.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FlowVerdict } from '../../src/datapath/datapath.ts';
import { address } from '../../src/model/address.ts';
import { formatAge } from '../../src/observe/age.ts';
import { buildStatus, daemonState, statusLine } from '../../src/observe/status.ts';
import { explainFlow } from '../../src/observe/why.ts';
import { NOON, poolStatus, reconcileStatus, statusInputs } from '../support/status-inputs.ts';

const HOLD = { reason: '3 of 8 vanished without proof', since: NOON, removed: 3, of: 8, until: NOON + 600_000 };

test('the report has the fixed keys, with numbers for counters', () => {
	const report = buildStatus(statusInputs());
	assert.equal(report.state, 'ok');
	assert.deepEqual(report.problems, []);
	assert.equal(report.interface, 'eth0');
	assert.deepEqual(report.interfaces, ['eth0']);
	assert.equal(report.mode, 'native');
	assert.deepEqual(report.vips, [
		{ address: '203.0.113.10', port: 443, protocol: 'tcp', pool: 'web', flags: [], packets: 1000, bytes: 64_000, new_flows: 12 },
	]);
	assert.deepEqual(report.pools[0]?.ring, { size: 65_537, digest: `sha256:${'ab'.repeat(32)}`, generation: 7 });
	assert.deepEqual(report.pools[0]?.backends[0], {
		address: '10.0.0.1',
		weight: 1,
		state: 'active',
		local: false,
		slots: 32_769,
		note: null,
		packets: 600,
		bytes: 40_000,
	});
	assert.equal(report.pools[0]?.backends[1]?.packets, 0);
	assert.deepEqual(report.sources, [{ name: 'etcd', kind: 'etcd', state: 'up', age_seconds: 0.2, error: null }]);
	assert.equal(report.started_at, '2026-11-23T11:00:00.000Z');
	assert.equal(report.pools[0]?.last_change?.at, '2026-11-23T11:56:48.000Z');
	assert.deepEqual(JSON.parse(JSON.stringify(report)), report);
});

test('a prefix vip is shown with its length', () => {
	const prefix = { address: address('fc00:1::'), length: 96 };
	const reconcile = reconcileStatus({ vips: [{ prefix, port: 0, protocol: 'udp', pool: 'web', flags: ['quic'] }] });
	assert.equal(buildStatus(statusInputs({ reconcile })).vips[0]?.address, 'fc00:1::/96');
});

test('what must be mended outranks a hold, and a hold outranks an adoption', () => {
	const held = reconcileStatus({ pools: [poolStatus({ state: 'held', hold: HOLD, answered: false })] });
	const adopted = { interface: 'eth0', mode: 'native', adopted: true } as const;
	const down = [{ name: 'etcd', kind: 'etcd', state: 'down', age_seconds: 412, error: 'connect ECONNREFUSED' }] as const;
	assert.equal(daemonState(statusInputs({ info: adopted })), 'ok', 'every source has answered since');
	assert.equal(
		daemonState(statusInputs({ info: adopted, reconcile: reconcileStatus({ pools: [poolStatus({ answered: false })] }) })),
		'adopted',
	);
	assert.equal(daemonState(statusInputs({ info: adopted, reconcile: held })), 'holding');
	assert.equal(daemonState(statusInputs({ info: adopted, reconcile: held, sources: down })), 'degraded');
	assert.equal(daemonState(statusInputs({ info: { ...adopted, mode: 'none' } })), 'degraded');
	assert.equal(daemonState(statusInputs({ reconcile: reconcileStatus({ error: 'no space left' }) })), 'degraded');
	assert.equal(
		daemonState(statusInputs({ reconcile: reconcileStatus({ pools: [poolStatus({ state: 'empty' })] }) })),
		'ok',
		"the owner's choice",
	);
});

test('every problem is a sentence', () => {
	const report = buildStatus(
		statusInputs({
			sources: [{ name: 'etcd', kind: 'etcd', state: 'down', age_seconds: 412, error: 'connect ECONNREFUSED' }],
			reconcile: reconcileStatus({
				pools: [
					poolStatus({ state: 'held', hold: HOLD, rejected: [{ instance: 'a', reason: 'is a loopback address' }] }),
					poolStatus({ name: 'api', state: 'empty' }),
				],
				waitingVips: [{ vip: '203.0.113.11:80/tcp', reason: 'its pool api was never answered' }],
			}),
		}),
	);
	assert.deepEqual(report.problems, [
		'source etcd is down: it last answered 6m52s ago (connect ECONNREFUSED)',
		'pool web is held: 3 of 8 vanished without proof',
		'pool api has no active backend',
		'vip 203.0.113.11:80/tcp is not served yet: its pool api was never answered',
		'pool web: 1 instance refused',
	]);
});

test('an IPv6 vip over IPv4 backends is a problem that is told', () => {
	const prefix = { address: address('2001:db8::10'), length: 128 };
	const vips = [{ prefix, port: 443, protocol: 'tcp', pool: 'web', flags: [] }] as const;
	const backend = { address: address('10.0.0.1'), weight: 1, state: 'active', local: false, slots: null, note: null } as const;
	const problems = (text: string) => {
		const pools = [poolStatus({ backends: [{ ...backend, address: address(text) }] })];
		return buildStatus(statusInputs({ reconcile: reconcileStatus({ vips, pools }) })).problems;
	};
	assert.deepEqual(problems('10.0.0.1'), ["pool web: 1 IPv4 backend can't serve [2001:db8::10]:443/tcp: its packets for them are dropped"]);
	assert.deepEqual(problems('fd00::1'), []);
});

test('a registry that is out of reach from the start is a problem, not a calm state', () => {
	const source = { name: 'etcd', kind: 'etcd', state: 'never', age_seconds: null, error: 'connect ECONNREFUSED' } as const;
	const reconcile = reconcileStatus({ pools: [poolStatus({ state: 'empty', answered: false, backends: [] })] });
	const report = buildStatus(statusInputs({ sources: [source], reconcile }));
	assert.equal(report.state, 'degraded');
	assert.deepEqual(report.problems, ['source etcd has never answered (connect ECONNREFUSED)']);
	assert.equal(daemonState(statusInputs({ sources: [{ ...source, error: null }], reconcile })), 'ok', 'it was asked just now');
	const info = { interface: 'eth0', mode: 'native', adopted: true } as const;
	assert.equal(daemonState(statusInputs({ info, sources: [source], reconcile })), 'adopted', 'traffic goes on as before');
});

test('the line for the service manager says the state in words', () => {
	assert.equal(statusLine(statusInputs()), 'serving 1 vip, 1 pool; etcd 0.2s');
	const reconcile = reconcileStatus({ pools: [poolStatus({ state: 'held', hold: HOLD })] });
	assert.equal(statusLine(statusInputs({ reconcile })), 'holding: serving 1 vip, 1 pool; etcd 0.2s; web keeps 3 of 8');
});

test('ages are short and never round up', () => {
	const ages: readonly (readonly [number, string])[] = [
		[-1, '0s'],
		[0.25, '0.2s'],
		[9.99, '9.9s'],
		[59.9, '59s'],
		[192, '3m12s'],
		[3599, '59m59s'],
		[18_180, '5h03m'],
		[532_800, '6d04h'],
	];
	for (const [seconds, text] of ages) assert.equal(formatAge(seconds), text);
});

const FLOW = { source: address('192.0.2.7'), sourcePort: 40_000, dest: address('203.0.113.10'), destPort: 443, protocol: 'tcp' } as const;

function verdict(over: Partial<FlowVerdict> = {}): FlowVerdict {
	return {
		vip: '203.0.113.10:443/tcp',
		pool: 'web',
		via: 'ring',
		backend: { address: address('10.0.0.1'), state: 'active' },
		entry: null,
		slot: 1234,
		ringBackend: address('10.0.0.1'),
		generation: 7,
		drop: null,
		...over,
	};
}

function sentence(over: Partial<FlowVerdict>, pool = poolStatus()): string {
	return explainFlow({ flow: FLOW, verdict: verdict(over), pool, waiting: [], now: NOON }).sentence;
}

const CHANGE = 'The pool last changed 3m12s ago, at revision 45 of etcd: 10.0.0.2 added.';

test('why explains a new flow by its ring slot', () => {
	assert.equal(
		sentence({}),
		`192.0.2.7:40000 goes to 10.0.0.1 for 203.0.113.10:443/tcp, because a new flow takes ring slot 1234 of 65537 of pool web (ring generation 7). ${CHANGE}`,
	);
});

test('why explains a known flow by its entry, and where a new one would go', () => {
	const entry = { address: address('10.0.0.2'), ageSeconds: 12.3, established: true, usable: true };
	const backend = { address: address('10.0.0.2'), state: 'draining' } as const;
	const pool = poolStatus({
		backends: [{ address: address('10.0.0.2'), weight: 0, state: 'draining', local: false, slots: 0, note: 'deregistered' }],
	});
	assert.equal(
		sentence({ via: 'flow-table', entry, backend }, pool),
		'192.0.2.7:40000 goes to 10.0.0.2 for 203.0.113.10:443/tcp, because its flow is in the flow table, last seen 12s ago; ' +
			'a new flow would take ring slot 1234 and go to 10.0.0.1. 10.0.0.2 is draining (deregistered): it keeps this flow but takes no new ones. ' +
			CHANGE,
	);
});

test('why says that an entry no longer counts', () => {
	const entry = { address: address('10.0.0.9'), ageSeconds: 40, established: false, usable: false };
	assert.match(sentence({ entry }), /Its flow-table entry for 10\.0\.0\.9 no longer counts/);
});

test('why names the reason of a drop and the hold behind it', () => {
	const dropped = sentence({ backend: null, via: 'none', drop: 'pool_empty' }, poolStatus({ hold: HOLD }));
	assert.match(dropped, /^Packets from 192\.0\.2\.7:40000 to 203\.0\.113\.10:443\/tcp are dropped: pool empty/);
	assert.match(dropped, /The guard holds the pool: 3 of 8 vanished without proof\.$/);
});

test('why never says that a flow goes to a backend that its packets are not sent to', () => {
	const dropped = sentence({ drop: 'backend_family' });
	assert.match(
		dropped,
		/are dropped: IPv6 packets can't be sent to an IPv4 backend \(backend_family\); they would go to 10\.0\.0\.1, because/,
	);
	assert.match(sentence({ drop: 'backend_self' }), /are dropped: 10\.0\.0\.1 is this host itself/);
});

const FOREIGN = { vip: null, pool: null, via: 'none', backend: null, slot: null, ringBackend: null, generation: null } as const;

test('why says that foreign packets are passed on', () => {
	const report = explainFlow({ flow: FLOW, verdict: verdict(FOREIGN), pool: undefined, waiting: [], now: NOON });
	assert.equal(
		report.sentence,
		'203.0.113.10:443/tcp is no vip here, so packets from 192.0.2.7:40000 are passed on to the host untouched.',
	);
	assert.equal(report.ring, null);
	assert.equal(report.registry, null);
});

test('why tells a vip that waits for its registry from one that nobody configured', () => {
	const reason = 'pool web waits for the first answer of source etcd';
	const said = (vip: string) =>
		explainFlow({ flow: FLOW, verdict: verdict(FOREIGN), pool: undefined, waiting: [{ vip, reason }], now: NOON }).sentence;
	for (const vip of ['203.0.113.10:443/tcp', '203.0.113.10:0/tcp']) {
		assert.match(said(vip), /^203\.0\.113\.10:443\/tcp is configured but not served yet \(pool web waits .*\), so packets .* passed on/);
	}
	assert.match(said('203.0.113.10:443/udp'), /is no vip here/);
});
