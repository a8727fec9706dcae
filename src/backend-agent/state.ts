// SPDX-License-Identifier: Apache-2.0
// What the agent has changed on this host, on disk before each change is made: a run that dies half-way can still be
// undone, and undoing touches nothing else. Lives in /run, so a reboot forgets it together with what it describes.
import { chmod, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import { XdpilotError } from '../errors.ts';
import { type Address, parseAddress } from '../model/address.ts';

const addressSchema = z.string().transform((text, context): Address => {
	const parsed = parseAddress(text);
	if (parsed !== undefined) return parsed;
	context.addIssue({ code: 'custom', message: 'not an address' });
	return z.NEVER;
});

const routeChangeSchema = z.object({
	family: z.union([z.literal(4), z.literal(6)]),
	/** replaced: an existing route was given another advmss. added: a copy with a better metric was put beside it. */
	kind: z.enum(['replaced', 'added']),
	/** The route's own words without advmss, as ip-route(8) takes them. */
	route: z.array(z.string()),
	advmss: z.number(),
	/** advmss that it had; null = none. */
	previous: z.number().nullable(),
});

const stateSchema = z.object({
	version: z.literal(1),
	interface: z.string(),
	/** Folder in bpffs of the pinned link and program. */
	pinPath: z.string(),
	/** Addresses that were put on lo. */
	vips: z.array(addressSchema),
	sysctls: z.array(z.object({ name: z.string(), before: z.string(), after: z.string() })),
	routes: z.array(routeChangeSchema),
});

export type BackendState = z.output<typeof stateSchema>;
export type SysctlChange = BackendState['sysctls'][number];
export type RouteChange = BackendState['routes'][number];

export class StateFile {
	readonly path: string;

	constructor(path: string) {
		this.path = path;
	}

	/** undefined when there is none. @throws XdpilotError E_HOST when it can't be read or is damaged */
	async read(): Promise<BackendState | undefined> {
		let text: string;
		try {
			text = await readFile(this.path, 'utf8');
		} catch (cause) {
			if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
			throw new XdpilotError('E_HOST', `can't read ${this.path}`, { cause });
		}
		try {
			return stateSchema.parse(JSON.parse(text));
		} catch (cause) {
			throw new XdpilotError('E_HOST', `${this.path} is damaged`, {
				unaffected: 'nothing was changed',
				hint: `undo by hand what it lists, then remove it: ${this.path}`,
				cause,
			});
		}
	}

	/** Replaces it whole. */
	async write(state: BackendState): Promise<void> {
		await mkdir(dirname(this.path), { recursive: true, mode: 0o755 });
		const temporary = `${this.path}.new`;
		await writeFile(temporary, `${JSON.stringify(state, null, '\t')}\n`);
		await chmod(temporary, 0o600);
		await rename(temporary, this.path);
	}

	async remove(): Promise<void> {
		await rm(this.path, { force: true });
	}
}
