// SPDX-License-Identifier: Apache-2.0
// What a command is given: where to write, and how to end with another exit status than 0.
import type { Terminal } from './terminal.ts';

export interface CliContext extends Terminal {
	/** Sets the exit status of a command that did its work, e.g. 2 for "changes pending". Failures are thrown instead. */
	readonly exitWith: (status: number) => void;
}
