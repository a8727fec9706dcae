// SPDX-License-Identifier: Apache-2.0
// Why a test that loads BPF programs can't run here, in the words that its skip shows; undefined where it can.
import { existsSync } from 'node:fs';
import { LB_OBJECT } from '../../src/datapath/loader.ts';
import { nativePath } from '../../src/native/binding.ts';

export function whyNoBpf(): string | undefined {
	if (process.getuid?.() !== 0) return 'loading BPF programs needs root';
	if (!existsSync(nativePath())) return 'the native addon is not built: npm run build:native';
	if (!existsSync(LB_OBJECT)) return 'the BPF objects are not built: npm run build:bpf';
	return undefined;
}
