// SPDX-License-Identifier: Apache-2.0
// The ways to a datapath: on an interface, adopting what an earlier daemon left there; or private to this process,
// for `simulate` and tests.
import type { Env } from '../env.ts';
import type { Logger } from '../log.ts';
import type { NativeAddon } from '../native/binding.ts';
import { type AttachOptions, openInstance } from './adopt.ts';
import { BpfDatapath } from './bpf-datapath.ts';
import { makePrivate } from './instance.ts';
import { LB_OBJECT, readObject } from './loader.ts';
import type { DatapathOptions } from './options.ts';

export interface Surroundings {
	readonly native: NativeAddon;
	readonly env: Env;
	readonly log: Logger;
	/** Path of lb.bpf.o; the one of this build when left out. */
	readonly object?: string;
}

/**
 * Opens the datapath of an interface: adopts pinned state, or makes everything anew.
 * @throws XdpilotError E_ABI_MISMATCH, E_ATTACH, E_PERMISSION, E_PLATFORM, E_NATIVE; what was forwarding goes on untouched
 */
export async function openDatapath(around: Surroundings, options: DatapathOptions, target: AttachOptions): Promise<BpfDatapath> {
	const { native, env, log } = around;
	const instance = await openInstance(native, env, readObject(around.object ?? LB_OBJECT), options, target);
	return BpfDatapath.start(native, env, log, instance, options);
}

/** A datapath without interface, link or pins, whose testRun() takes frames one by one. */
export async function openPrivateDatapath(around: Surroundings, options: DatapathOptions): Promise<BpfDatapath> {
	const { native, env, log } = around;
	const instance = await makePrivate(native, env, readObject(around.object ?? LB_OBJECT), options);
	return BpfDatapath.start(native, env, log, instance, options);
}
