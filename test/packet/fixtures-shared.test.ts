// SPDX-License-Identifier: Apache-2.0
// Frames with known outcomes, where a sibling folder of the checkout has some: byte for byte through `xdpilot
// simulate`, the way somebody else would run them. They are an extra; the project's own are in simulate.test.ts.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { whyNoBpf } from '../support/privileged.ts';
import { simulateFrames } from '../support/simulating.ts';

const FOLDER = fileURLToPath(new URL('../../../shared/fixtures/katran', import.meta.url));

interface Fixture {
	readonly config: unknown;
	readonly services: unknown;
	readonly frames: readonly {
		readonly name: string;
		readonly description: string;
		readonly in: string;
		readonly verdict: string;
		readonly out: string;
	}[];
}

for (const [name, count] of [
	['base.json', 36],
	['icmp_toobig.json', 2],
] as const) {
	const file = join(FOLDER, name);
	const skip = whyNoBpf() ?? (existsSync(file) ? false : `${name} is not beside the checkout`);
	test(`all frames of ${name} come out as expected, byte for byte`, { skip }, async () => {
		const fixture = JSON.parse(readFileSync(file, 'utf8')) as Fixture;
		assert.equal(fixture.frames.length, count);
		const frames = fixture.frames.map((f) => Buffer.from(f.in, 'base64'));
		const { lines } = await simulateFrames(fixture.config, fixture.services, frames);
		for (const [i, expected] of fixture.frames.entries()) {
			const { verdict, out } = lines[i] ?? {};
			assert.deepEqual({ verdict, out }, { verdict: expected.verdict, out: expected.out }, `${expected.name}: ${expected.description}`);
		}
	});
}
