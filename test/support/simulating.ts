// SPDX-License-Identifier: Apache-2.0
// Runs `xdpilot simulate` as a command: a configuration, its services and frames in files, what it prints out again.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { simulateCommand } from '../../src/cli/commands/simulate.ts';
import { type PcapFrame, readPcap, writePcap } from '../../src/cli/pcap.ts';

export interface SimulatedLine {
	readonly frame: number;
	readonly verdict: 'tx' | 'pass' | 'drop';
	/** Base64. */
	readonly out: string;
	readonly vip: string | null;
	readonly backend: string | null;
	readonly reason: string | null;
}

export interface SimulatedRun {
	readonly lines: readonly SimulatedLine[];
	readonly stderr: string;
	/** Of the written capture. */
	readonly sent: readonly PcapFrame[];
}

/** `config` and `services` are written as JSON, which is YAML; the file source is expected at services.yaml. */
export async function simulateFrames(config: unknown, services: unknown, frames: readonly Uint8Array[]): Promise<SimulatedRun> {
	const folder = mkdtempSync(join(tmpdir(), 'xdpilot-simulate-'));
	const file = (name: string) => join(folder, name);
	try {
		writeFileSync(file('lb.yaml'), JSON.stringify(config));
		writeFileSync(file('services.yaml'), JSON.stringify(services));
		writeFileSync(file('in.pcap'), writePcap({ isNano: false, frames: frames.map((bytes, i) => ({ seconds: 1, fraction: i, bytes })) }));
		const printed: string[] = [];
		const warned: string[] = [];
		const context = {
			stdout: { write: (text: string) => printed.push(text) },
			stderr: { write: (text: string) => warned.push(text) },
			exitWith: () => undefined,
		};
		const args = ['-c', file('lb.yaml'), '--pcap-in', file('in.pcap'), '--pcap-out', file('out.pcap')];
		await simulateCommand(context).parseAsync(args, { from: 'user' });
		const lines = printed
			.join('')
			.trimEnd()
			.split('\n')
			.filter((line) => line !== '');
		return {
			lines: lines.map((line) => JSON.parse(line) as SimulatedLine),
			stderr: warned.join(''),
			sent: readPcap(readFileSync(file('out.pcap')), 'out.pcap').frames,
		};
	} finally {
		rmSync(folder, { recursive: true });
	}
}
