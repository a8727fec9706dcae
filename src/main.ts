#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// The program `xdpilot`: arguments in, exit status out. Everything else is in src/cli.
import { runCli } from './cli/program.ts';
import { CLOSED_PIPE_EXIT, reportError } from './cli/report-error.ts';

process.stdout.on('error', (e: NodeJS.ErrnoException) => {
	// The reader has seen enough, e.g. `xdpilot status | head -1`.
	if (e.code === 'EPIPE') process.exit(CLOSED_PIPE_EXIT);
	throw e;
});
process.on('uncaughtException', (e) => {
	process.exit(reportError(e, process.stderr));
});

process.exitCode = await runCli(process.argv.slice(2), { stdout: process.stdout, stderr: process.stderr });
