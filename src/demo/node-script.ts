// SPDX-License-Identifier: Apache-2.0
// How to start another script of this program with the same Node and the same loader, from a checkout (TypeScript under
// a loader) as well as from a build (JavaScript).
import { fileURLToPath } from 'node:url';
import type { Argv } from '../host/command.ts';

/** argv for the script at `relative` (no extension), seen from the module at `base` (its import.meta.url). */
export function nodeScript(base: string, relative: string, ...args: readonly string[]): Argv {
	const extension = base.endsWith('.ts') ? '.ts' : '.js';
	return [process.execPath, ...loaderArguments(process.execArgv), fileURLToPath(new URL(relative + extension, base)), ...args];
}

/** Of this process's own arguments to Node only those that load TypeScript: a test runner's are not for its children. */
export function loaderArguments(execArgv: readonly string[]): string[] {
	return execArgv.flatMap((a, i) => {
		if (a === '--import' || a === '--require' || a === '-r' || a === '--loader') return [a, execArgv[i + 1] ?? ''];
		return /^--(import|require|loader)=/.test(a) ? [a] : [];
	});
}
