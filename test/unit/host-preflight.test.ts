// SPDX-License-Identifier: Apache-2.0
// What a machine lacks is said in one line each, with its mend; what it has is said too.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judgeNamespaces, judgePreflight, type PreflightFacts, requirePreflight } from '../../src/host/preflight.ts';

const GOOD: PreflightFacts = {
	kernelRelease: '6.1.0-18-amd64',
	capabilities: (1n << 39n) | (1n << 12n),
	hasBtf: true,
	hasBpffs: true,
	isRoot: true,
};

function failing(facts: Partial<PreflightFacts>): string[] {
	return judgePreflight({ ...GOOD, ...facts })
		.filter((i) => !i.ok)
		.map((i) => `${i.id}: ${i.what} / ${i.mend}`);
}

test('finds nothing wrong with a good machine', () => {
	assert.deepEqual(failing({}), []);
	assert.doesNotThrow(() => requirePreflight(judgePreflight(GOOD)));
	assert.deepEqual(failing({ capabilities: (1n << 21n) | (1n << 12n) }), [], 'CAP_SYS_ADMIN stands in for CAP_BPF');
});

test('compares kernel releases by number, not by text', () => {
	for (const release of ['6.10.3', '7.0.0-rc1', '6.1']) assert.deepEqual(failing({ kernelRelease: release }), [], release);
	for (const release of ['5.15.0-91-generic', '6.0.12', '4.19']) assert.equal(failing({ kernelRelease: release }).length, 1, release);
});

test('names what is missing and how to get it', () => {
	assert.deepEqual(failing({ capabilities: 0n, isRoot: false }), ['privileges: CAP_BPF and CAP_NET_ADMIN missing / run it with sudo']);
	assert.match(failing({ capabilities: 1n << 12n })[0] ?? '', /^privileges: CAP_BPF missing \/ .*container/);
	assert.match(failing({ hasBtf: false })[0] ?? '', /^btf: .*CONFIG_DEBUG_INFO_BTF=y/);
	assert.match(failing({ hasBpffs: false })[0] ?? '', /^bpffs: .*mount -t bpf bpf \/sys\/fs\/bpf$/);
});

test('knows that namespaces take CAP_SYS_ADMIN', () => {
	assert.equal(judgeNamespaces({ ...GOOD, capabilities: 1n << 21n }).ok, true);
	assert.match(judgeNamespaces(GOOD).what, /^CAP_SYS_ADMIN missing/);
});

test('tells missing privileges from a missing platform by its code', () => {
	const judged = (facts: Partial<PreflightFacts>) => () => requirePreflight(judgePreflight({ ...GOOD, ...facts }));
	assert.throws(judged({ capabilities: 0n }), { code: 'E_PERMISSION' });
	assert.throws(judged({ capabilities: 0n, hasBtf: false }), { code: 'E_PLATFORM', message: /CAP_BPF.*; .*BTF/ });
});
