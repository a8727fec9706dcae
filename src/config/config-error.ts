// SPDX-License-Identifier: Apache-2.0
// Everything that is wrong with a configuration, as an error. Apart from load.ts, so that commands which read no
// configuration need neither parser nor schema.
import { XdpilotError } from '../errors.ts';

/** One thing that is wrong with a configuration. */
export interface ConfigIssue {
	readonly file: string;
	/** From 1; null when the file as a whole is meant. */
	readonly line: number | null;
	readonly column: number | null;
	/** "pools.web.from.source"; empty when no key is meant. */
	readonly key: string;
	readonly problem: string;
	readonly expected: string | null;
}

/** E_CONFIG with everything that is wrong, in the order of the file. */
export class ConfigError extends XdpilotError {
	readonly issues: readonly ConfigIssue[];

	constructor(file: string, issues: readonly ConfigIssue[]) {
		const count = issues.length === 1 ? 'a mistake' : `${issues.length} mistakes`;
		super('E_CONFIG', `${file} has ${count}`, { unaffected: 'nothing was changed' });
		this.issues = issues;
	}
}

/** "lb.yaml:4:9: datapath.mode got "fast"; expected one of native, generic, auto" */
export function formatIssue(issue: ConfigIssue): string {
	const place = issue.line === null ? issue.file : `${issue.file}:${issue.line}:${issue.column}`;
	const expected =
		issue.expected === null
			? ''
			: `; ${issue.expected.startsWith('did you') || issue.expected.startsWith('it ') ? '' : 'expected '}${issue.expected}`;
	return `${place}: ${issue.key === '' ? '' : `${issue.key} `}${issue.problem}${expected}`;
}
