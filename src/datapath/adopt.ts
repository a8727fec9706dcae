// SPDX-License-Identifier: Apache-2.0
// Opens the instance of an interface. In order of preference: take over what is pinned without writing anything;
// put a new program on the pinned maps; make everything anew. Pinned maps of another shape are refused, untouched.
// Pins are made in an order that tells at any moment what they are worth: maps, their meta row, program, link.
import { existsSync } from 'node:fs';
import type { Env } from '../env.ts';
import { XdpilotError } from '../errors.ts';
import type { BpfLink, BpfProgram } from '../native/addon.d.ts';
import type { NativeAddon } from '../native/binding.ts';
import type { LbConfig, Meta } from './abi.gen.ts';
import { attach, type Interface } from './attach.ts';
import { type Clock, openClock } from './clock.ts';
import { type Attachment, type Instance, writeMeta } from './instance.ts';
import { kernelCall } from './kernel-error.ts';
import { checkMaps, closeMaps, type EntryPoint, loadProgram, type Maps, mapsBy, type ObjectFile } from './loader.ts';
import { checkMeta, checkNetns, drawFlowKey, MetaRow } from './meta.ts';
import { type DatapathOptions, mapEntries, optionsHash, programConfig } from './options.ts';
import { clearFolder, instancePath, LINK_PINS, MAP_NAMES, NEXT_PROGRAM_PIN, PinFolder, PROGRAM_PIN, removeFolder } from './pins.ts';

export interface AttachOptions {
	readonly on: Interface;
	readonly mode: 'native' | 'generic' | 'auto';
	/** A folder in bpffs. */
	readonly pinPath: string;
}

/** What every step below needs. */
interface Opening {
	readonly native: NativeAddon;
	readonly env: Env;
	readonly file: ObjectFile;
	readonly options: DatapathOptions;
	readonly target: AttachOptions;
	readonly folder: PinFolder;
}

/** Opens, and if need be makes, the instance of an interface. @throws XdpilotError; what was pinned is then untouched */
export async function openInstance(
	native: NativeAddon,
	env: Env,
	file: ObjectFile,
	options: DatapathOptions,
	target: AttachOptions,
): Promise<Instance> {
	const folder = PinFolder.open(native, target.pinPath, target.on.ifindex);
	const opening = { native, env, file, options, target, folder };
	try {
		const meta = finishedMeta(opening);
		return meta ? await adopt(opening, meta) : await makeAnew(opening);
	} catch (e) {
		folder.close();
		throw e;
	}
}

/** Removes link, programs, maps and pins of an interface; false when there was nothing. Idempotent. */
export function detach(native: NativeAddon, pinPath: string, ifindex: number): boolean {
	if (!existsSync(instancePath(pinPath, ifindex))) return false;
	const folder = PinFolder.open(native, pinPath, ifindex);
	try {
		const present = [...MAP_NAMES, PROGRAM_PIN, ...Object.values(LINK_PINS)].some((name) => folder.has(name));
		clearFolder(folder.path);
		return present;
	} finally {
		folder.close();
		removeFolder(instancePath(pinPath, ifindex));
	}
}

/** The meta row of finished maps; undefined when there are none, whatever else is pinned. */
function finishedMeta({ native, folder }: Opening): Meta | undefined {
	if (!folder.has('meta')) return undefined;
	const map = kernelCall('open the pinned meta row', () => native.BpfMap.open(folder.pin('meta')));
	try {
		return new MetaRow(map.mmap({ readOnly: true })).read();
	} finally {
		map.close();
	}
}

async function makeAnew(opening: Opening): Promise<Instance> {
	const { native, env, options, file, folder } = opening;
	folder.clear();
	const cpus = native.possibleCpus();
	const clock = await openClock(native, env);
	const config = programConfig(options, clock, drawFlowKey(), cpus);
	const first = loadProgram(native, file, 'lb', config, { entries: mapEntries(options, cpus) });
	const { maps } = first;
	const load = (entry: EntryPoint) => (entry === 'lb' ? first.program : loadProgram(native, file, entry, config, { reuse: maps }).program);
	try {
		pinMaps(folder, maps, file, config);
		return { ...(await attachAndPin(opening, load)), maps, config, clock, adopted: false };
	} catch (e) {
		folder.clear();
		removeFolder(folder.path);
		closeMaps(maps);
		clock.close();
		throw e;
	}
}

function pinMaps(folder: PinFolder, maps: Maps, file: ObjectFile, config: LbConfig): void {
	for (const name of MAP_NAMES) kernelCall(`pin map ${name}`, () => maps[name].pin(folder.pin(name)));
	writeMeta(maps, file, config);
}

async function adopt(opening: Opening, meta: Meta): Promise<Instance> {
	const { native, env, options, file, folder } = opening;
	const cpus = native.possibleCpus();
	checkMeta(meta, options.limits);
	checkNetns(meta);
	const maps = mapsBy((name) => kernelCall(`open pinned map ${name}`, () => native.BpfMap.open(folder.pin(name))));
	let clock: Clock | undefined;
	try {
		checkMaps(maps, mapEntries(options, cpus));
		clock = await openClock(native, env, { hz: meta.hz, shift: meta.clockShift });
		const config = programConfig(options, clock, meta.flowKey, cpus);
		const same = Buffer.compare(meta.objectHash, file.hash) === 0 && Buffer.compare(meta.optionsHash, optionsHash(config)) === 0;
		const link = openLink(opening);
		const pinned = { maps, config, same };
		const { program, attachment } = link ? takeOver(opening, pinned, link) : await attachAgain(opening, pinned);
		if (!same) new MetaRow(maps.meta.mmap()).update({ objectHash: file.hash, optionsHash: optionsHash(config) });
		return { program, maps, config, clock, attachment, adopted: true };
	} catch (e) {
		closeMaps(maps);
		clock?.close();
		throw e;
	}
}

/** The pinned link, if it still holds an interface; a dead one is removed. @throws XdpilotError E_ATTACH in the wrong mode */
function openLink({ native, folder, target }: Opening): BpfLink | undefined {
	const mode = folder.linkMode;
	if (mode === undefined) return undefined;
	const link = kernelCall('open the pinned link', () => native.BpfLink.open(folder.pin(LINK_PINS[mode])));
	if (link.info().ifindex !== target.on.ifindex) {
		link.close();
		folder.remove(LINK_PINS[mode]);
		return undefined;
	}
	if (target.mode === 'auto' || target.mode === mode) return link;
	link.close();
	throw new XdpilotError('E_ATTACH', `the pinned link of ${target.on.name} is ${mode}, the configuration says ${target.mode}`, {
		unaffected: 'what is pinned goes on forwarding, untouched',
		hint: 'take it down first: xdpilot detach',
	});
}

interface Pinned {
	readonly maps: Maps;
	readonly config: LbConfig;
	/** Object and options are those that the pinned program was made of. */
	readonly same: boolean;
}

interface Running {
	readonly program: BpfProgram;
	readonly attachment: Attachment;
}

/** The link goes on; its program is replaced unless it is the very one that would be loaded. */
function takeOver(opening: Opening, pinned: Pinned, link: BpfLink): Running {
	const { native, folder, target } = opening;
	const mode = folder.linkMode ?? 'native';
	const attachment = { interface: target.on.name, mode, link, folder };
	folder.remove(NEXT_PROGRAM_PIN);
	const pinnedProgram = folder.has(PROGRAM_PIN)
		? kernelCall('open the pinned program', () => native.BpfProgram.open(folder.pin(PROGRAM_PIN)))
		: undefined;
	const isAttached = pinnedProgram?.info().id === link.info().programId;
	if (pinned.same && pinnedProgram && isAttached) return { program: pinnedProgram, attachment };
	// A link keeps to programs for plain buffers or for several; the pinned one tells which.
	const entry: EntryPoint = pinnedProgram?.info().name === 'lb_frags' ? 'lb_frags' : 'lb';
	const program = replaceProgram(opening, pinned, link, { entry, expected: isAttached ? pinnedProgram : undefined });
	pinnedProgram?.close();
	return { program, attachment };
}

/** Atomic for packets: each runs the old program or the new one, on the same maps. */
function replaceProgram(
	{ native, folder, file }: Opening,
	{ config, maps }: Pinned,
	link: BpfLink,
	old: { readonly entry: EntryPoint; readonly expected: BpfProgram | undefined },
): BpfProgram {
	const { program } = loadProgram(native, file, old.entry, config, { reuse: maps });
	kernelCall('pin the new program', () => program.pin(folder.pin(NEXT_PROGRAM_PIN)));
	kernelCall('replace the program', () => link.update(program, old.expected), 'E_ATTACH');
	folder.rename(NEXT_PROGRAM_PIN, PROGRAM_PIN);
	return program;
}

/** The maps are good, but nothing runs on them. */
function attachAgain(opening: Opening, { maps, config }: Pinned): Promise<Running> {
	const { native, folder, file } = opening;
	folder.remove(PROGRAM_PIN);
	folder.remove(NEXT_PROGRAM_PIN);
	return attachAndPin(opening, (entry) => loadProgram(native, file, entry, config, { reuse: maps }).program);
}

async function attachAndPin({ native, env, folder, target }: Opening, load: (entry: EntryPoint) => BpfProgram): Promise<Running> {
	const { link, mode, program } = await attach(native, env, target.on, target.mode, load);
	kernelCall('pin the program', () => program.pin(folder.pin(PROGRAM_PIN)));
	kernelCall('pin the link', () => link.pin(folder.pin(LINK_PINS[mode])));
	return { program, attachment: { interface: target.on.name, mode, link, folder } };
}
