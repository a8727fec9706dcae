// SPDX-License-Identifier: Apache-2.0
// What tests of the addon share: why they can't run here, BPF objects compiled for the occasion, little-endian bytes.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { machine, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';
import { nativePath } from '../../src/native/binding.ts';

const FIXTURES = fileURLToPath(new URL('../fixtures/', import.meta.url));

/** Why the addon can't be tested; undefined where it can. */
export function whyNoAddon(): string | undefined {
	return existsSync(nativePath()) ? undefined : 'the native addon is not built: npm run build:native';
}

/** The same for what needs BPF maps. */
export function whyNoMaps(): string | undefined {
	return process.getuid?.() === 0 ? whyNoAddon() : 'creating BPF maps needs root';
}

/** The same for what needs programs compiled. */
export function whyNoPrograms(): string | undefined {
	if (spawnSync('clang', ['--version']).error) return 'clang is missing: apt-get install clang';
	return whyNoMaps();
}

/** A folder of this test file's own, removed when it ends. */
export function scratch(): string {
	const dir = mkdtempSync(join(tmpdir(), `xdpilot-native-${process.pid}-`));
	after(() => rmSync(dir, { recursive: true, force: true }));
	return dir;
}

/** A folder in bpffs of this test file's own; its pins go with it. */
export function scratchPins(): string {
	const dir = mkdtempSync(`/sys/fs/bpf/xdpilot-native-${process.pid}-`);
	after(() => rmSync(dir, { recursive: true, force: true }));
	return dir;
}

/** Compiles test/fixtures/NAME.bpf.c into `dir`; returns the object's path. */
export function compileBpf(name: string, dir: string): string {
	const out = join(dir, `${name}.bpf.o`);
	const include = `/usr/include/${machine()}-linux-gnu`;
	execFileSync('clang', ['-O2', '-g', '-target', 'bpf', '-I', include, '-c', join(FIXTURES, `${name}.bpf.c`), '-o', out]);
	return out;
}

export const u32 = (...n: number[]): Uint8Array => new Uint8Array(Uint32Array.from(n).buffer);
export const u64 = (...n: (number | bigint)[]): Uint8Array => new Uint8Array(BigUint64Array.from(n, BigInt).buffer);
export const readU32 = (bytes: Uint8Array | undefined, at = 0): number | undefined =>
	bytes && new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(at, true);

/** Open descriptors of this process. */
export function openFds(): number {
	return readdirSync('/proc/self/fd').length;
}

/** Values of `enum bpf_map_type` and of map flags. */
export const MAP = { hash: 1, array: 2, percpuHash: 5, percpuArray: 6, arrayOfMaps: 12, mmapable: 1 << 10, noPrealloc: 1 } as const;
