// SPDX-License-Identifier: Apache-2.0
// Where the registry servers are: named by a variable, on the PATH, or where the set-up puts what it fetched.
import { accessSync, constants, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { XdpilotError } from '../../errors.ts';

const SERVERS = {
	etcd: { variable: 'ETCD_BIN', cache: 'etcd' },
	consul: { variable: 'CONSUL_BIN', cache: 'consul-1.8.7' },
} as const;

/** Absolute path, or undefined. @throws XdpilotError E_USAGE when the variable names no program */
export function findRegistryProgram(
	name: keyof typeof SERVERS,
	environment: Readonly<Record<string, string | undefined>> = process.env,
): string | undefined {
	const { variable, cache } = SERVERS[name];
	const named = environment[variable];
	if (named !== undefined && named !== '') {
		if (isProgram(named)) return named;
		throw new XdpilotError('E_USAGE', `${variable} names ${named}, which is not an executable file`);
	}
	const fetched = join(environment.XDPILOT_CACHE || join(homedir(), '.cache/xdpilot'), cache);
	const folders = [...(environment.PATH ?? '').split(delimiter).filter((f) => f !== ''), '/usr/local/bin', '/usr/bin', fetched];
	return folders.map((folder) => join(folder, name)).find(isProgram);
}

function isProgram(path: string): boolean {
	try {
		accessSync(path, constants.X_OK);
		return statSync(path).isFile();
	} catch {
		return false;
	}
}
