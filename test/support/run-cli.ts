// SPDX-License-Identifier: Apache-2.0
// Runs a command line inside the test's process and captures what it prints.
import { runCli } from '../../src/cli/program.ts';

export interface CliResult {
	readonly status: number;
	readonly stdout: string;
	readonly stderr: string;
	/** stdout as JSON. */
	readonly json: () => unknown;
}

export async function cli(...argv: string[]): Promise<CliResult> {
	const written = { stdout: '', stderr: '' };
	const capture = (name: 'stdout' | 'stderr') => ({
		write: (text: string) => {
			written[name] += text;
		},
	});
	const status = await runCli(argv, { stdout: capture('stdout'), stderr: capture('stderr') });
	return { status, ...written, json: () => JSON.parse(written.stdout) as unknown };
}
