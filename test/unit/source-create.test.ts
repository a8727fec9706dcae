// SPDX-License-Identifier: Apache-2.0
// From configuration to sources, and secrets from files.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { sourceSchema } from '../../src/config/source-schema.ts';
import { isXdpilotError } from '../../src/errors.ts';
import { silentLogger } from '../../src/log.ts';
import { createSource } from '../../src/sources/create.ts';
import { readSecret, readTls } from '../../src/sources/credentials.ts';
import { VirtualEnv } from '../support/virtual-env.ts';

const create = (config: object) => createSource('one', sourceSchema.parse(config), new VirtualEnv(), silentLogger());

test('makes each kind from its configuration, without connecting', async () => {
	for (const config of [
		{ kind: 'file', path: '/nonexistent/services.yaml' },
		{ kind: 'etcd', endpoints: ['http://127.0.0.1:1'] },
		{ kind: 'consul', address: 'unix:///nonexistent.sock' },
		{ kind: 'consul', address: 'https://[fd00::1]:8501' },
	]) {
		const source = create(config);
		assert.deepEqual(source.status(), { name: 'one', kind: config.kind, state: 'never', age_seconds: null, error: null });
		await source.close();
	}
});

test('refuses a layout that it can not read, before anything is opened', () => {
	assert.throws(
		() => create({ kind: 'etcd', layout: 'skydns' }),
		(e) => isXdpilotError(e) && e.code === 'E_NOT_BUILT' && e.message.includes('sources.one.layout'),
	);
});

test('reads secrets of one line and names the file of any other', async () => {
	const folder = mkdtempSync(join(tmpdir(), `xdpilot-test-secret-${process.pid}-`));
	try {
		const write = (name: string, text: string) => {
			writeFileSync(join(folder, name), text);
			return join(folder, name);
		};
		assert.equal(await readSecret(write('plain', 'secret')), 'secret');
		assert.equal(await readSecret(write('ended', 'sec ret\r\n')), 'sec ret');
		for (const file of [
			write('empty', '\n'),
			write('lines', 'a\nb\n'),
			join(folder, 'absent'),
			folder,
			write('huge', 'x'.repeat(1_100_000)),
		]) {
			await assert.rejects(readSecret(file), (e) => isXdpilotError(e) && e.code === 'E_SOURCE' && e.message.includes(file));
		}
		const ca = write('ca', 'PEM');
		assert.deepEqual(await readTls({ ca }), { ca: Buffer.from('PEM') });
		assert.deepEqual(await readTls(undefined), {});
		await assert.rejects(readTls({ ca, key: join(folder, 'absent') }), /absent/);
	} finally {
		rmSync(folder, { recursive: true, force: true });
	}
});
