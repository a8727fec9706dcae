// SPDX-License-Identifier: Apache-2.0
// Programs and maps of one load balancer, as opened: made anew, private to this process, or adopted from the pins of
// an earlier daemon. What an instance is; adopt.ts decides which way it is opened.
import type { Env } from '../env.ts';
import type { BpfLink, BpfProgram } from '../native/addon.d.ts';
import type { NativeAddon } from '../native/binding.ts';
import type { LbConfig } from './abi.gen.ts';
import { type Clock, openClock } from './clock.ts';
import { closeMaps, loadProgram, type Maps, type ObjectFile } from './loader.ts';
import { currentNetns, drawFlowKey, MetaRow } from './meta.ts';
import { type DatapathOptions, mapEntries, optionsHash, programConfig } from './options.ts';
import type { LinkMode, PinFolder } from './pins.ts';

export interface Instance {
	readonly program: BpfProgram;
	readonly maps: Maps;
	readonly config: LbConfig;
	readonly clock: Clock;
	/** null for a private instance. */
	readonly attachment: Attachment | null;
	/** The maps hold what an earlier process wrote. */
	readonly adopted: boolean;
}

export interface Attachment {
	readonly interface: string;
	readonly mode: LinkMode;
	readonly link: BpfLink;
	readonly folder: PinFolder;
}

/** Maps and program that no interface, pin or other process knows. */
export async function makePrivate(native: NativeAddon, env: Env, file: ObjectFile, options: DatapathOptions): Promise<Instance> {
	const cpus = native.possibleCpus();
	const clock = await openClock(native, env);
	try {
		const config = programConfig(options, clock, drawFlowKey(), cpus);
		const { program, maps } = loadProgram(native, file, 'lb', config, { entries: mapEntries(options, cpus) });
		writeMeta(maps, file, config);
		return { program, maps, config, clock, attachment: null, adopted: false };
	} catch (e) {
		clock.close();
		throw e;
	}
}

/** Notes in the maps what they were made with. */
export function writeMeta(maps: Maps, file: ObjectFile, config: LbConfig): void {
	new MetaRow(maps.meta.mmap()).write({
		hz: config.hz,
		clockShift: config.clockShift,
		generation: 1,
		objectHash: file.hash,
		optionsHash: optionsHash(config),
		flowKey: config.flowKey,
		ringSize: config.ringSize,
		maxBackendsPerPool: config.maxBackendsPerPool,
		netns: currentNetns(),
	});
}

/** Lets go of everything; what is pinned stays. */
export function closeInstance(instance: Instance): void {
	const { program, maps, clock, attachment } = instance;
	attachment?.link.close();
	program.close();
	closeMaps(maps);
	clock.close();
	attachment?.folder.close();
}
