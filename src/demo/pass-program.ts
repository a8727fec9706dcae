// SPDX-License-Identifier: Apache-2.0
// The XDP program that does nothing: a veth hands over frames sent by XDP_TX only when its other end has a program.
import { fileURLToPath } from 'node:url';
import { XdpilotError } from '../errors.ts';
import type { NativeAddon } from '../native/binding.ts';

const SECTION = 'xdp';

/** A function that loads the program and pins it at a path. Both throw XdpilotError E_NATIVE or a system error. */
export function passProgramPinner(native: NativeAddon): (path: string) => void {
	const objectPath = fileURLToPath(new URL('../../build/bpf/pass.bpf.o', import.meta.url));
	return (path) => {
		const object = native.BpfObject.open(objectPath);
		try {
			const wanted = object.programs.find((p) => p.section === SECTION);
			if (wanted === undefined) throw new XdpilotError('E_NATIVE', `${objectPath} has no program in section ${SECTION}`);
			for (const p of object.programs) object.setAutoload(p.name, p.name === wanted.name);
			object.load();
			const program = object.program(wanted.name);
			program.pin(path);
			program.close();
		} finally {
			object.close();
		}
	};
}
