// SPDX-License-Identifier: Apache-2.0
// A daemon to kill: opens the datapath of an interface, then swaps rings, flips vips and replaces backends without
// end, so that SIGKILL meets it in the middle of anything. Arguments: pin path, interface name, ifindex.
import { openDatapath } from '../../src/datapath/open.ts';
import { backendAddress, put, ring, vip } from './datapath-contract.ts';
import { smallOptions, surroundings } from './datapath-subject.ts';

const [pinPath = '', name = '', ifindex = ''] = process.argv.slice(2);
const on = { name, ifindex: Number(ifindex) };
const datapath = await openDatapath(surroundings(), smallOptions(), { on, mode: 'auto', pinPath });
datapath.putBackends([1, 2, 3].map((n) => put(n)));
await datapath.swapRings([ring([1, 2, 3])]);
await datapath.putVips([vip()]);
process.stdout.write('forwarding\n');

/** Backends 1 to 3 always serve; others come and go. */
for (let round = 0; ; round++) {
	const guest = 4 + (round % 5);
	datapath.putBackends([put(guest)]);
	await datapath.swapRings([ring([1, 2, 3, guest], { weight: 1 + (round % 3) })]);
	await datapath.putVips([vip(), vip({ port: 1000 + (round % 7) })]);
	datapath.putBackends([put(guest, { state: 'down' })]);
	await datapath.swapRings([ring([1, 2, 3])]);
	await datapath.removeBackends('web', [backendAddress(guest)]);
}
