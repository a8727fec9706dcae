// SPDX-License-Identifier: Apache-2.0
// The file source against a real file system: the common promises, and what only files do.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { systemEnv } from '../../src/env.ts';
import { silentLogger } from '../../src/log.ts';
import { FileSource } from '../../src/sources/file/file-source.ts';
import { until } from '../support/server-process.ts';
import { SnapshotLog } from '../support/snapshot-log.ts';
import { query, type Registered, type RegistrySubject, sourceConformance } from '../support/source-conformance.ts';

function createSource(path: string): FileSource {
	return new FileSource({ name: 'static', path, env: systemEnv, logger: silentLogger(), pollMs: 200 });
}

async function subject(): Promise<RegistrySubject> {
	const folder = mkdtempSync(join(tmpdir(), `xdpilot-test-file-${process.pid}-`));
	const path = join(folder, 'services.yaml');
	const services = new Map<string, Map<string, Registered | 'spoilt'>>();
	const before = watchers();
	const write = () => {
		const value = Object.fromEntries(
			[...services].map(([name, entries]) => [name, [...entries.values()].map((e) => (e === 'spoilt' ? { address: 'nowhere' } : e))]),
		);
		writeFileSync(`${path}.new`, JSON.stringify({ services: value }));
		renameSync(`${path}.new`, path);
	};
	write();
	const entriesOf = (service: string) => {
		const entries = services.get(service) ?? new Map<string, Registered | 'spoilt'>();
		services.set(service, entries);
		return entries;
	};
	return {
		createSource: () => createSource(path),
		set: async (service, id, instance) => {
			entriesOf(service).set(id, instance);
			write();
		},
		remove: async (service, id) => {
			entriesOf(service).delete(id);
			write();
		},
		spoil: async (service, id) => {
			entriesOf(service).set(id, 'spoilt');
			write();
		},
		rewrite: async () => write(),
		takeAway: async () => rmSync(path),
		held: () => watchers() - before,
		dispose: async () => rmSync(folder, { recursive: true, force: true }),
	};
}

/** Watched folders of this process. */
function watchers(): number {
	return process.getActiveResourcesInfo().filter((r) => r === 'FSEventWrap').length;
}

sourceConformance('file', subject);

function inFolder(title: string, body: (path: string, source: FileSource, log: SnapshotLog) => Promise<void>): void {
	test(`file: ${title}`, { timeout: 30_000 }, async () => {
		const folder = mkdtempSync(join(tmpdir(), `xdpilot-test-file-${process.pid}-`));
		const path = join(folder, 'services.yaml');
		const source = createSource(path);
		try {
			await body(path, source, new SnapshotLog());
		} finally {
			await source.close();
			rmSync(folder, { recursive: true, force: true });
		}
	});
}

const GOOD = 'services:\n  web:\n    - { address: 10.0.0.1 }\n    - { address: 10.0.0.2 }\n';

inFolder('keeps what it knew while the file is invalid, and says where it is', async (path, source, log) => {
	writeFileSync(path, GOOD);
	source.watch(query('web'), log.listener);
	await log.seenAddresses('10.0.0.1', '10.0.0.2');
	for (const [text, place] of [
		['services:\n  web:\n    - { address: 10.0.0.1\n', /line 4/],
		['services: {}\nservces: {}\n', /line 2: unknown key "servces"/],
		['', /empty/],
		['services: [1]\n', /line 1/],
	] as const) {
		writeFileSync(path, text);
		await until(`the source complains: ${place}`, () => place.test(source.status().error ?? ''));
		assert.equal(source.status().state, 'stale');
	}
	assert.equal(log.count, 1);
	writeFileSync(path, GOOD.replace('10.0.0.2', '10.0.0.3'));
	await log.seenAddresses('10.0.0.1', '10.0.0.3');
	assert.equal(source.status().state, 'up');
});

inFolder('keeps what it knew while the file is gone', async (path, source, log) => {
	writeFileSync(path, GOOD);
	source.watch(query('web'), log.listener);
	await log.seenAddresses('10.0.0.1', '10.0.0.2');
	rmSync(path);
	await until('the source is down', () => source.status().state === 'down');
	writeFileSync(path, GOOD);
	await until('the source is up', () => source.status().state === 'up');
	assert.equal(log.count, 1);
});

inFolder('waits for a file that does not exist yet', async (path, source, log) => {
	source.watch(query('web'), log.listener);
	await until('the source says why', () => /no such file/.test(source.status().error ?? ''));
	assert.equal(source.status().state, 'never');
	writeFileSync(path, GOOD);
	await log.seenAddresses('10.0.0.1', '10.0.0.2');
});

inFolder('never takes a half-written file for deregistrations', async (path, source, log) => {
	const lines = Array.from({ length: 200 }, (_, i) => `    - { address: 10.0.1.${i} }`);
	const text = (n: number) => `services:\n  web:\n${lines.slice(0, n).join('\n')}\n`;
	writeFileSync(path, text(200));
	source.watch(query('web'), log.listener);
	await log.seen('all', (s) => s.instances.length === 200);
	// An editor that truncates and writes in pieces: every piece ends at a line and is valid by itself.
	for (let n = 0; n <= 150; n += 10) {
		writeFileSync(path, text(n));
		await new Promise((resolve) => setImmediate(resolve));
	}
	await log.seen('the end result', (s) => s.instances.length === 150);
	assert.deepEqual(
		log.snapshots.map((s) => s.instances.length),
		[200, 150],
	);
});

inFolder('does not starve while files are renamed over it without a pause', async (path, source, log) => {
	writeFileSync(path, GOOD);
	source.watch(query('web'), log.listener);
	await log.seenAddresses('10.0.0.1', '10.0.0.2');
	let n = 0;
	const churn = setInterval(() => {
		writeFileSync(`${path}.new`, `services: { web: [ { address: 10.0.0.1, weight: ${++n} } ] }`);
		renameSync(`${path}.new`, path);
	}, 5);
	try {
		await log.seen('something of the churn', (s) => s.instances.length === 1);
	} finally {
		clearInterval(churn);
	}
	await log.seen('the last one', (s) => s.instances[0]?.weight === n);
});

inFolder('follows a symbolic link that is swapped', async (path, source, log) => {
	writeFileSync(`${path}.1`, GOOD);
	writeFileSync(`${path}.2`, GOOD.replace('10.0.0.2', '10.0.0.9'));
	symlinkSync(`${path}.1`, path);
	source.watch(query('web'), log.listener);
	await log.seenAddresses('10.0.0.1', '10.0.0.2');
	symlinkSync(`${path}.2`, `${path}.link`);
	renameSync(`${path}.link`, path);
	await log.seenAddresses('10.0.0.1', '10.0.0.9');
});

inFolder('does not take a service that is no longer named for an act of its owner', async (path, source, log) => {
	writeFileSync(path, GOOD);
	source.watch(query('web'), log.listener);
	await log.seenAddresses('10.0.0.1', '10.0.0.2');
	writeFileSync(path, readFileSync(path, 'utf8').replace('web', 'wbe'));
	const after = await log.seenAddresses();
	assert.deepEqual(
		after.absences.map((a) => a.kind),
		['blank', 'blank'],
	);
	assert.match(after.rejected[0]?.reason ?? '', /does not name this service/);
	writeFileSync(path, 'services: { web: [] }');
	await log.seen('the explanation', (s) => s.rejected.length === 0);
	assert.equal(log.absence('10.0.0.1'), 'deregistered');
});

inFolder('one service that is not a list does not keep others from changing', async (path, source, log) => {
	writeFileSync(path, `${GOOD}  api: [ { address: 10.0.0.7 } ]\n`);
	const api = new SnapshotLog();
	source.watch(query('web'), log.listener);
	source.watch(query('api'), api.listener);
	await log.seenAddresses('10.0.0.1', '10.0.0.2');
	await api.seenAddresses('10.0.0.7');
	writeFileSync(path, 'services:\n  web: nonsense\n  api: [ { address: 10.0.0.8 } ]\n');
	await api.seenAddresses('10.0.0.8');
	assert.match(source.status().error ?? '', /line 2: services.web must be a list/);
	assert.equal(log.count, 1);
});
