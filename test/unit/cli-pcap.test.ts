// SPDX-License-Identifier: Apache-2.0
// Classic pcap in all four forms, and every way in which a file can be something else.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Pcap, readPcap, writePcap } from '../../src/cli/pcap.ts';
import { isXdpilotError } from '../../src/errors.ts';

const frame = (length: number, seconds = 1, fraction = 2) => ({ seconds, fraction, bytes: Uint8Array.from({ length }, (_, i) => i & 255) });
const refuses = (data: Uint8Array, text: string) =>
	assert.throws(
		() => readPcap(data, 'in.pcap'),
		(e) => isXdpilotError(e) && e.code === 'E_USAGE' && e.message.includes('in.pcap') && e.message.includes(text),
	);

/** The same file with its words in the other byte order, as a big-endian host writes it. */
function bigEndian({ isNano, frames }: Pcap): Uint8Array {
	const file = Buffer.from(writePcap({ isNano, frames }));
	const swap = (at: number, length: number) => file.subarray(at, at + length).reverse();
	for (const at of [0, 8, 12, 16, 20]) swap(at, 4);
	swap(4, 2);
	swap(6, 2);
	for (let at = 24; at < file.length; ) {
		const length = file.readUInt32LE(at + 8);
		for (let i = 0; i < 4; i++) swap(at + 4 * i, 4);
		at += 16 + length;
	}
	return file;
}

test('what is written is read back, in both byte orders and units', () => {
	const anyFrame = fc
		.record({ seconds: fc.nat(), fraction: fc.nat(999_999), bytes: fc.uint8Array({ maxLength: 60 }) })
		.map((f) => ({ ...f }));
	fc.assert(
		fc.property(fc.boolean(), fc.array(anyFrame, { maxLength: 5 }), (isNano, frames) => {
			const pcap = { isNano, frames };
			assert.deepEqual(readPcap(writePcap(pcap), 'x'), pcap);
			assert.deepEqual(readPcap(bigEndian(pcap), 'x'), pcap);
		}),
	);
});

test('an empty capture has no frames', () => {
	assert.deepEqual(readPcap(writePcap({ isNano: false, frames: [] }), 'x').frames, []);
});

test('a capture of another link type is refused by its number', () => {
	const file = writePcap({ isNano: false, frames: [frame(20)] });
	new DataView(file.buffer).setUint32(20, 113, true);
	refuses(file, 'link type 113');
});

test('a file cut short is refused by the frame that is cut', () => {
	const file = writePcap({ isNano: false, frames: [frame(20), frame(30)] });
	refuses(file.subarray(0, file.length - 1), 'within frame 1');
	refuses(file.subarray(0, 24 + 16 + 20 + 7), 'within the header of frame 1');
	refuses(file.subarray(0, 10), 'too short');
});

test('a frame that was captured in part is refused: half of it would be simulated', () => {
	const file = writePcap({ isNano: false, frames: [frame(20), frame(64)] });
	new DataView(file.buffer).setUint32(24 + 16 + 20 + 12, 1514, true);
	refuses(file, '64 of the 1514 bytes of frame 1');
});

test('pcapng and other files are recognised', () => {
	refuses(Buffer.concat([Buffer.from('0a0d0d0a', 'hex'), Buffer.alloc(40)]), 'pcapng');
	refuses(Buffer.alloc(40, 'text '), 'no pcap file');
});
