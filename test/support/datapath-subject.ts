// SPDX-License-Identifier: Apache-2.0
// A real datapath under test: options small enough to be made often, a way to send one packet of a flow through its
// program and to read from the outer header where it went.
import type { BpfDatapath, TestRun } from '../../src/datapath/bpf-datapath.ts';
import type { DatapathLimits, Flow } from '../../src/datapath/datapath.ts';
import type { Surroundings } from '../../src/datapath/open.ts';
import { type DatapathOptions, DEFAULT_OPTIONS } from '../../src/datapath/options.ts';
import { systemEnv } from '../../src/env.ts';
import { silentLogger } from '../../src/log.ts';
import { type Address, formatAddress } from '../../src/model/address.ts';
import { loadNative } from '../../src/native/binding.ts';
import { flowFrame, TCP } from './packet-builder.ts';

export const GATEWAY = Uint8Array.of(0x02, 0, 0, 0, 0, 0xfe);

/** The real kernel, clock and addon. */
export function surroundings(): Surroundings {
	return { native: loadNative(), env: systemEnv, log: silentLogger() };
}

export function smallOptions(limits: Partial<DatapathLimits> = {}, over: Partial<DatapathOptions> = {}): DatapathOptions {
	const small = { ringSize: 1009, maxBackendsPerPool: 64, maxPools: 32, maxBackends: 256, maxVips: 32 };
	return { ...DEFAULT_OPTIONS, limits: { ...small, ...limits }, flowEntries: 8 * 1024, gatewayMac: GATEWAY, ...over };
}

/** Sends one packet of a flow by a test run. */
export function sendThrough(datapath: BpfDatapath, flow: Flow, packet: { readonly syn?: boolean } = {}): Address | 'pass' | 'drop' {
	return destination(datapath.testRun(packetOf(flow, packet)));
}

export function packetOf(flow: Flow, packet: { readonly syn?: boolean } = {}): Uint8Array {
	const { source, sourcePort, dest, destPort, protocol } = flow;
	const flags = protocol === 'udp' ? 'udp' : packet.syn ? TCP.syn : TCP.ack;
	return flowFrame({ source, sourcePort, dest, destPort, flags });
}

/** Destination of the outer header of a sent frame. */
export function destination({ verdict, out }: TestRun): Address | 'pass' | 'drop' {
	if (verdict === 'pass' || verdict === 'drop') return verdict;
	if (verdict !== 'tx') throw new Error(`unexpected verdict ${verdict}`);
	const isIpv6 = out[12] === 0x86;
	return formatAddress(isIpv6 ? out.subarray(38, 54) : out.subarray(30, 34));
}
