// SPDX-License-Identifier: Apache-2.0
// Reads and writes classic pcap files (draft-ietf-opsawg-pcap): both byte orders, microseconds and nanoseconds,
// Ethernet only. A capture that was cut short is refused: half a frame would be simulated as another one. pcapng is
// recognised, to say how to convert it.
import { XdpilotError } from '../errors.ts';

export interface PcapFrame {
	readonly seconds: number;
	/** Of the second, in the file's unit. */
	readonly fraction: number;
	readonly bytes: Uint8Array;
}

export interface Pcap {
	/** Whether fractions are nanoseconds; microseconds otherwise. */
	readonly isNano: boolean;
	readonly frames: readonly PcapFrame[];
}

const MAGIC_MICRO = 0xa1b2c3d4;
const MAGIC_NANO = 0xa1b23c4d;
const MAGIC_PCAPNG = 0x0a0d0d0a;
const FILE_HEADER = 24;
const FRAME_HEADER = 16;
const LINKTYPE_ETHERNET = 1;
const SNAP_LENGTH = 262_144;

/** @throws XdpilotError E_USAGE naming the file, and the frame where one is at fault */
export function readPcap(data: Uint8Array, file: string): Pcap {
	const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
	if (data.length < FILE_HEADER) throw refused(file, 'is too short for a pcap file');
	const { little, isNano } = formatOf(view, file);
	const linkType = view.getUint32(20, little) & 0xffff;
	if (linkType !== LINKTYPE_ETHERNET) throw refused(file, `has link type ${linkType}; only Ethernet (1) can be simulated`);
	const frames: PcapFrame[] = [];
	for (let at = FILE_HEADER; at < data.length; ) {
		if (at + FRAME_HEADER > data.length) throw refused(file, `ends within the header of frame ${frames.length}`);
		const [captured, original] = [view.getUint32(at + 8, little), view.getUint32(at + 12, little)];
		const start = at + FRAME_HEADER;
		if (captured > SNAP_LENGTH || start + captured > data.length) throw refused(file, `ends within frame ${frames.length}`);
		if (captured < original) {
			throw refused(
				file,
				`holds only ${captured} of the ${original} bytes of frame ${frames.length}`,
				'capture whole frames: tcpdump -s 0',
			);
		}
		const bytes = new Uint8Array(data.subarray(start, start + captured));
		frames.push({ seconds: view.getUint32(at, little), fraction: view.getUint32(at + 4, little), bytes });
		at = start + captured;
	}
	return { isNano, frames };
}

/** A little-endian file. */
export function writePcap({ isNano, frames }: Pcap): Uint8Array {
	const length = frames.reduce((sum, f) => sum + FRAME_HEADER + f.bytes.length, FILE_HEADER);
	const out = new Uint8Array(length);
	const view = new DataView(out.buffer);
	view.setUint32(0, isNano ? MAGIC_NANO : MAGIC_MICRO, true);
	view.setUint16(4, 2, true);
	view.setUint16(6, 4, true);
	view.setUint32(16, SNAP_LENGTH, true);
	view.setUint32(20, LINKTYPE_ETHERNET, true);
	let at = FILE_HEADER;
	for (const { seconds, fraction, bytes } of frames) {
		for (const [i, word] of [seconds, fraction, bytes.length, bytes.length].entries()) view.setUint32(at + 4 * i, word, true);
		out.set(bytes, at + FRAME_HEADER);
		at += FRAME_HEADER + bytes.length;
	}
	return out;
}

function formatOf(view: DataView, file: string): { readonly little: boolean; readonly isNano: boolean } {
	for (const little of [true, false]) {
		const magic = view.getUint32(0, little);
		if (magic === MAGIC_MICRO || magic === MAGIC_NANO) return { little, isNano: magic === MAGIC_NANO };
	}
	if (view.getUint32(0, true) === MAGIC_PCAPNG) throw refused(file, 'is a pcapng file', `convert it: editcap -F pcap ${file} out.pcap`);
	throw refused(file, 'is no pcap file');
}

function refused(file: string, problem: string, hint?: string): XdpilotError {
	return new XdpilotError('E_USAGE', `${file} ${problem}`, { unaffected: 'nothing was written', ...(hint === undefined ? {} : { hint }) });
}
