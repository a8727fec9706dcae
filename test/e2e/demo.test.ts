// SPDX-License-Identifier: Apache-2.0
// `xdpilot demo` as a user runs it: keeps its promises with each registry, and leaves nothing behind, neither at its end
// nor when it is interrupted, nor - once the next one has begun - when it was killed.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { type TestContext, test } from 'node:test';
import { xdpilotArgv } from '../../src/demo/daemon-process.ts';
import type { DemoFigures } from '../../src/demo/figures.ts';
import { findRegistryProgram } from '../../src/demo/registry/find-program.ts';
import { whyNoFabric } from '../support/fabric.ts';
import { until } from '../support/server-process.ts';

const skip = whyNoFabric() ?? false;
const timeout = 150_000;

interface Running {
	readonly child: ChildProcess;
	readonly stdout: () => string;
	readonly stderr: () => string;
	readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
}

function start(t: TestContext, ...args: string[]): Running {
	const [file, ...rest] = xdpilotArgv('demo', ...args);
	const child = spawn(file, rest, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, NO_COLOR: '1' } });
	const text = { stdout: '', stderr: '' };
	child.stdout.on('data', (chunk: Buffer) => {
		text.stdout += chunk;
	});
	child.stderr.on('data', (chunk: Buffer) => {
		text.stderr += chunk;
	});
	const ended = once(child, 'close').then(([code, signal]) => ({ code, signal }));
	t.after(async () => {
		child.kill('SIGKILL');
		await ended;
	});
	return { child, stdout: () => text.stdout, stderr: () => text.stderr, ended };
}

async function figuresOf(t: TestContext, ...args: string[]): Promise<DemoFigures> {
	const demo = start(t, '--json', ...args);
	const { code } = await demo.ended;
	assert.equal(code, 0, `${demo.stderr()}\n${brokenPromises(demo.stdout())}`);
	assert.deepEqual(leftBy(demo.child.pid), []);
	return JSON.parse(demo.stdout()) as DemoFigures;
}

function brokenPromises(stdout: string): string {
	if (!stdout.startsWith('{')) return stdout;
	const { promises } = JSON.parse(stdout) as DemoFigures;
	return (promises ?? []).flatMap((p) => (p.kept ? [] : [`${p.promise}: ${p.found}`])).join('\n');
}

/** Namespaces, pins, files and processes of a demo. */
function leftBy(pid: number | undefined): string[] {
	const mine = (name: string) => name.startsWith(`xdpilot-demo-${pid}`);
	const files = ['/run/netns', '/sys/fs/bpf', tmpdir()].flatMap((d) =>
		existsSync(d)
			? readdirSync(d)
					.filter(mine)
					.map((n) => `${d}/${n}`)
			: [],
	);
	const processes = readdirSync('/proc').filter((p) => /^\d+$/.test(p) && commandOf(p).includes(`xdpilot-demo-${pid}`));
	return [...files, ...processes.map((p) => `process ${p}: ${commandOf(p)}`)];
}

function commandOf(pid: string): string {
	try {
		return readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ');
	} catch {
		return '';
	}
}

function checkFigures(figures: DemoFigures, source: string): void {
	assert.equal(figures.source, source);
	assert.equal(figures.fallback, null);
	assert.equal(figures.kept, true);
	assert.equal(figures.promises.length, 10);
	assert.ok(figures.requests.total > 2000, `${figures.requests.total} requests`);
	for (const kind of ['new', 'kept', 'datagram']) assert.ok((figures.requests.by_kind[kind] ?? 0) > 300, kind);
	assert.deepEqual(Object.keys(figures.baseline.by_backend).sort(), ['b1', 'b2', 'b3']);
	// A killed backend costs something; a demo that sees nothing of it was not looking.
	assert.ok(figures.death.failed_before_swap > 0);
	assert.equal(figures.requests.failed, figures.death.failed_before_swap);
	for (const change of [figures.join, figures.leave]) {
		assert.ok(change.slots !== null);
		assert.equal(change.slots.of, 2 * 65537);
		assert.ok(Math.abs(change.slots.unavoidable - change.slots.of / 4) <= 2, `${change.slots.unavoidable} unavoidable`);
		assert.ok(change.slots.beyond >= 0 && change.slots.beyond < change.slots.of / 100, `${change.slots.beyond} beyond`);
	}
	assert.match(figures.why.sentence, /^10\.77\.1\.2:\d+ goes to 10\.77\.1\d\.2 for 203\.0\.113\.10:80\/tcp, because /);
}

test('the demo keeps its promises with a file, and leaves nothing behind', { skip, timeout }, async (t) => {
	checkFigures(await figuresOf(t, '--source', 'file'), 'file');
});

const etcd = findRegistryProgram('etcd');
test('the demo keeps its promises with a real etcd, and leaves nothing behind', {
	skip: skip || (etcd === undefined ? 'no etcd: put it on the PATH or set ETCD_BIN' : false),
	timeout,
}, async (t) => {
	checkFigures(await figuresOf(t), 'etcd');
});

const consul = findRegistryProgram('consul');
test('the demo keeps its promises with a real Consul, and leaves nothing behind', {
	skip: skip || (consul === undefined ? 'no consul: put it on the PATH or set CONSUL_BIN' : false),
	timeout,
}, async (t) => {
	checkFigures(await figuresOf(t, '--source', 'consul'), 'consul');
});

test('Ctrl-C at any time leaves nothing behind', { skip, timeout }, async (t) => {
	const moments: [string, (demo: Running) => boolean][] = [
		['while the network is being built', (demo) => leftBy(demo.child.pid).length > 0],
		['while backends and daemon start', (demo) => leftBy(demo.child.pid).some((l) => l.startsWith('process'))],
		['while traffic flows', (demo) => /1 {2}Three backends/.test(demo.stdout())],
	];
	for (const [when, isThen] of moments) {
		const demo = start(t, '--source', 'file');
		await until(when, () => isThen(demo) || demo.child.exitCode !== null, 60_000);
		demo.child.kill('SIGINT');
		assert.deepEqual(await demo.ended, { code: 130, signal: null }, `${when}: ${demo.stderr()}`);
		assert.match(demo.stderr(), /interrupted; everything that the demo made has been removed/);
		assert.deepEqual(leftBy(demo.child.pid), [], when);
	}
});

test('a reader that goes away early leaves nothing behind either', { skip, timeout }, async (t) => {
	const demo = start(t, '--source', 'file');
	await until('traffic flows', () => /1 {2}Three backends/.test(demo.stdout()), 60_000);
	demo.child.stdout?.destroy();
	await demo.ended;
	await until('all is gone', () => leftBy(demo.child.pid).length === 0, 5000).catch(() => {});
	assert.deepEqual(leftBy(demo.child.pid), []);
});

test('what a killed demo left is taken away by the next one, and its processes died with it', { skip, timeout }, async (t) => {
	const demo = start(t, '--source', 'file');
	await until('traffic flows', () => /1 {2}Three backends/.test(demo.stdout()), 60_000);
	demo.child.kill('SIGKILL');
	await demo.ended;
	await until('its processes are gone', () => !leftBy(demo.child.pid).some((l) => l.startsWith('process')));
	assert.notDeepEqual(leftBy(demo.child.pid), []);
	const cleaning = start(t, '--clean');
	assert.equal((await cleaning.ended).code, 0);
	assert.match(cleaning.stdout(), new RegExp(`removed .*xdpilot-demo-${demo.child.pid}`));
	assert.deepEqual(leftBy(demo.child.pid), []);
});

test('the demo touches no interface of the host', { skip, timeout }, async (t) => {
	const before = hostInterfaces();
	const demo = start(t, '--source', 'file');
	await until('traffic flows', () => /1 {2}Three backends/.test(demo.stdout()), 60_000);
	const during = hostInterfaces();
	for (const [name, facts] of before) assert.equal(during.get(name), facts, name);
	assert.deepEqual(
		[...during.keys()].filter((n) => n.startsWith('rt-')),
		[],
		'no end of a cable is on the host',
	);
	demo.child.kill('SIGTERM');
	assert.equal((await demo.ended).code, 130);
});

/** Interfaces that carry traffic, each with its MTU, its flags and the XDP program on it. */
function hostInterfaces(): Map<string, string> {
	const text = execFileSync('ip', ['-j', '-d', 'link', 'show'], { encoding: 'utf8', timeout: 10_000, stdio: ['ignore', 'pipe', 'ignore'] });
	const rows = JSON.parse(text) as Record<string, unknown>[];
	const physical = rows.filter((r) => !['veth', 'bridge'].includes((r.linkinfo as { info_kind?: string } | undefined)?.info_kind ?? ''));
	return new Map(physical.map((r) => [String(r.ifname), JSON.stringify([r.mtu, r.flags, r.xdp])]));
}
