// SPDX-License-Identifier: Apache-2.0
// From an object file to a loaded program on a set of maps: layout checked first, constants set, maps sized or
// taken over. Attaches nothing.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { XdpilotError } from '../errors.ts';
import type { BpfMap, BpfObject, BpfProgram } from '../native/addon.d.ts';
import type { NativeAddon } from '../native/binding.ts';
import { type LbConfig, MAPS, type MapName } from './abi.gen.ts';
import { checkLayout } from './btf.ts';
import { kernelCall } from './kernel-error.ts';
import { configBytes, ringBytes } from './options.ts';
import { MAP_NAMES } from './pins.ts';

export const LB_OBJECT = fileURLToPath(new URL('../../build/bpf/lb.bpf.o', import.meta.url));

/** The two entries of one program: `lb_frags` for frames of several buffers, `lb` for all others. */
export type EntryPoint = 'lb' | 'lb_frags';
export type Maps = Readonly<Record<MapName, BpfMap>>;

/** An object file that fits the generated code. */
export interface ObjectFile {
	readonly path: string;
	/** SHA-256 of the file. */
	readonly hash: Uint8Array;
}

export interface Loaded {
	readonly program: BpfProgram;
	readonly maps: Maps;
}

/** Reads and checks an object. @throws XdpilotError E_NATIVE when it is missing, E_ABI_MISMATCH when it is of another build */
export function readObject(path: string = LB_OBJECT): ObjectFile {
	if (!existsSync(path)) throw new XdpilotError('E_NATIVE', `the BPF object is not at ${path}`, { hint: 'build it: npm run setup' });
	const bytes = kernelCall(`read ${path}`, () => readFileSync(path), 'E_NATIVE');
	checkLayout(bytes);
	return { path, hash: createHash('sha256').update(bytes).digest() };
}

/**
 * Loads the program, on new maps of these sizes or on existing ones.
 * @throws XdpilotError E_NATIVE, with the verifier's log in the cause's `verifierLog`, or E_PERMISSION
 */
export function loadProgram(
	native: NativeAddon,
	file: ObjectFile,
	entry: EntryPoint,
	config: LbConfig,
	maps: { readonly reuse: Maps } | { readonly entries: Partial<Record<MapName, number>> },
): Loaded {
	const object = kernelCall(`open ${file.path}`, () => native.BpfObject.open(file.path), 'E_NATIVE');
	try {
		return kernelCall('load the XDP program', () => load(object, entry, config, maps), 'E_NATIVE');
	} finally {
		object.close();
	}
}

function load(
	object: BpfObject,
	entry: EntryPoint,
	config: LbConfig,
	maps: { readonly reuse: Maps } | { readonly entries: Partial<Record<MapName, number>> },
): Loaded {
	object.rodata().set(configBytes(config));
	object.setAutoload(entry === 'lb' ? 'lb_frags' : 'lb', false);
	object.resizeMap('rings', { innerValueSize: ringBytes(config) });
	for (const name of MAP_NAMES) {
		const maxEntries = 'entries' in maps ? maps.entries[name] : undefined;
		if ('reuse' in maps) object.reuseMap(name, maps.reuse[name]);
		else if (maxEntries !== undefined) object.resizeMap(name, { maxEntries });
	}
	object.load();
	const own = (name: MapName) => ('reuse' in maps ? maps.reuse[name] : object.map(name));
	return { program: object.program(entry), maps: mapsBy(own) };
}

/** One map for each name. */
export function mapsBy(open: (name: MapName) => BpfMap): Maps {
	return Object.fromEntries(MAP_NAMES.map((name) => [name, open(name)])) as Record<MapName, BpfMap>;
}

export function closeMaps(maps: Maps): void {
	for (const map of Object.values(maps)) map.close();
}

/** @throws XdpilotError E_ABI_MISMATCH when a pinned map has another shape than this configuration gives it */
export function checkMaps(maps: Maps, entries: Partial<Record<MapName, number>>): void {
	for (const name of MAP_NAMES) {
		const found = maps[name].info();
		const declared = MAPS[name];
		const expected = { ...declared, maxEntries: entries[name] ?? declared.maxEntries };
		for (const property of ['type', 'keySize', 'valueSize', 'maxEntries', 'flags'] as const) {
			if (found[property] === expected[property]) continue;
			throw new XdpilotError(
				'E_ABI_MISMATCH',
				`pinned map ${name} has ${property} ${found[property]}, this configuration ${expected[property]}`,
				{
					unaffected: 'what is pinned goes on forwarding, untouched',
					hint: 'take the old instance down first: xdpilot detach',
				},
			);
		}
	}
}
