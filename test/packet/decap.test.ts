// SPDX-License-Identifier: Apache-2.0
// The decapsulating program of backends: takes off what the balancer put on, for known addresses only.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, suite, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type Address, address, mappedBytes } from '../../src/model/address.ts';
import type { BpfMap, BpfProgram } from '../../src/native/addon.d.ts';
import { loadNative } from '../../src/native/binding.ts';
import { GATEWAY_MAC, VERDICTS } from '../support/lb-instance.ts';
import { wrapped } from '../support/outer-model.ts';
import { concat, type FlowPacket, flowFrame, flowIp, hex, ip, ipFrame, PROTOCOL, patch, words } from '../support/packet-builder.ts';
import { whyNoBpf } from '../support/privileged.ts';

const DECAP_OBJECT = fileURLToPath(new URL('../../build/bpf/decap.bpf.o', import.meta.url));
const ETHERNET_HEADER = 14;
const GUE_PORT = 9886;

const FLOW4: FlowPacket = { source: address('192.168.1.1'), dest: address('10.200.1.1'), sourcePort: 31337, destPort: 80 };
const FLOW6: FlowPacket = { source: address('fc00:2::1'), dest: address('fc00:1::1'), sourcePort: 31337, destPort: 80 };
const KINDS = {
	'IPv4 in IPv4': { flow: FLOW4, backend: address('10.0.0.1') },
	'IPv4 in IPv6': { flow: FLOW4, backend: address('fc00::1') },
	'IPv6 in IPv6': { flow: FLOW6, backend: address('fc00::1') },
} as const;

suite('decapsulation', { skip: whyNoBpf() ?? false }, () => {
	for (const entry of ['decap', 'decap_frags'] as const) {
		suite(entry, () => {
			let program: BpfProgram;
			let maps: Record<'decap_addresses' | 'decap_vips' | 'decap_counters', BpfMap>;

			beforeEach(() => {
				const object = loadNative().BpfObject.open(DECAP_OBJECT);
				for (const p of object.programs) object.setAutoload(p.name, p.name === entry);
				new DataView(object.rodata().buffer, object.rodata().byteOffset).setUint16(0, GUE_PORT);
				object.load();
				program = object.program(entry);
				maps = {
					decap_addresses: object.map('decap_addresses'),
					decap_vips: object.map('decap_vips'),
					decap_counters: object.map('decap_counters'),
				};
				object.close();
			});
			afterEach(() => {
				program.close();
				for (const map of Object.values(maps)) map.close();
			});

			const allow = (map: 'decap_addresses' | 'decap_vips', a: Address) => maps[map].update(mappedBytes(a), new Uint8Array(4));

			function outer({ flow, backend }: { readonly flow: FlowPacket; readonly backend: Address }, packet = flowIp(flow)): Uint8Array {
				return wrapped(packet, backend, { address: flow.source, port: flow.sourcePort }, GATEWAY_MAC);
			}

			function assertUnwrapped(frame: Uint8Array, packet: Uint8Array): void {
				const { verdict, out } = program.testRun(frame);
				assert.equal(VERDICTS[verdict], 'pass');
				const type = ipFrame(packet).subarray(12, ETHERNET_HEADER);
				assert.equal(hex(out), hex(concat(frame.subarray(0, 12), type, packet)));
			}

			function assertUntouched(frame: Uint8Array): void {
				const { verdict, out } = program.testRun(frame);
				assert.equal(VERDICTS[verdict], 'pass');
				assert.equal(hex(out), hex(frame));
			}

			/** Sums of ipv4, ipv6, foreign and truncated over the CPUs. */
			function counters(): number[] {
				const words = new BigUint64Array(maps.decap_counters.lookup(new Uint8Array(4))?.slice().buffer ?? new ArrayBuffer(0));
				return [0, 1, 2, 3].map((field) => words.reduce((sum, word, i) => (i % 4 === field ? sum + Number(word) : sum), 0));
			}

			for (const [name, kind] of Object.entries(KINDS)) {
				test(`unwraps ${name} that carries a packet for a vip of this host`, () => {
					allow('decap_vips', kind.flow.dest);
					assertUnwrapped(outer(kind), flowIp(kind.flow));
				});

				test(`unwraps ${name} that was sent to an own address`, () => {
					allow('decap_addresses', kind.backend);
					assertUnwrapped(outer(kind), flowIp(kind.flow));
				});

				test(`leaves ${name} alone whose addresses are both unknown`, () => {
					allow('decap_vips', address('10.200.1.99'));
					allow('decap_addresses', kind.flow.dest);
					assertUntouched(outer(kind));
				});

				test(`leaves ${name} alone that ends within the inner header`, () => {
					allow('decap_addresses', kind.backend);
					const inner = flowIp(kind.flow).subarray(0, kind.flow === FLOW4 ? 19 : 39);
					assertUntouched(outer(kind, inner));
					assert.deepEqual(counters(), [0, 0, 0, 1]);
				});
			}

			/** In GUE, as the balancer sends it but for the checksum. */
			function inGue(
				{ flow, backend }: { readonly flow: FlowPacket; readonly backend: Address },
				port = GUE_PORT,
				packet = flowIp(flow),
			): Uint8Array {
				const source = backend.includes(':') ? address('fc00:9::9') : address('10.9.9.9');
				return ipFrame(ip(source, backend, PROTOCOL.udp, concat(words(0x1234, port, 8 + packet.length, 0), packet)));
			}

			for (const [name, kind] of Object.entries(KINDS)) {
				test(`unwraps GUE around ${name} by its outer or its inner destination, and no other`, () => {
					assertUntouched(inGue(kind));
					allow('decap_vips', kind.flow.dest);
					assertUnwrapped(inGue(kind), flowIp(kind.flow));
					assertUntouched(inGue(kind, 53));
					assertUntouched(inGue(kind, GUE_PORT, patch(flowIp(kind.flow), 0, 0x05)));
					assert.deepEqual(counters(), kind.flow === FLOW4 ? [1, 0, 1, 0] : [0, 1, 1, 0]);
				});

				test(`leaves every truncation of GUE around ${name} alone`, () => {
					allow('decap_addresses', kind.backend);
					const frame = inGue(kind);
					const inner = frame.length - flowIp(kind.flow).length + (kind.flow === FLOW4 ? 20 : 40);
					for (let n = ETHERNET_HEADER; n < inner; n++) assertUntouched(frame.subarray(0, n));
				});
			}

			test('unwraps nothing while it knows no address', () => {
				for (const kind of Object.values(KINDS)) assertUntouched(outer(kind));
				assert.deepEqual(counters(), [0, 0, 3, 0]);
			});

			test('leaves everything else alone', () => {
				const kind = KINDS['IPv4 in IPv4'];
				allow('decap_addresses', kind.backend);
				allow('decap_vips', FLOW4.dest);
				assertUntouched(flowFrame(FLOW4));
				assertUntouched(flowFrame(FLOW6));
				assertUntouched(patch(outer(kind), 20, 0x20) /* more fragments */);
				assertUntouched(ipFrame(ip(FLOW4.source, kind.backend, PROTOCOL.ipip, flowIp(FLOW4), { options: new Uint8Array(4) })));
				assertUntouched(ipFrame(ip(FLOW4.source, kind.backend, PROTOCOL.ipv6, flowIp(FLOW6))));
				assertUntouched(outer(kind).subarray(0, ETHERNET_HEADER + 19));
				assert.deepEqual(counters(), [0, 0, 0, 0]);
			});

			test('counts what it unwraps by inner family', () => {
				allow('decap_vips', FLOW4.dest);
				allow('decap_vips', FLOW6.dest);
				for (const kind of Object.values(KINDS)) program.testRun(outer(kind));
				assert.deepEqual(counters(), [2, 1, 0, 0]);
			});

			test('keeps the type of service, the hop limit and the payload of the inner packet', () => {
				const flow = { ...FLOW4, tos: 0x8d, ttl: 3, payload: Uint8Array.from({ length: 1000 }, (_, i) => i) };
				allow('decap_vips', flow.dest);
				assertUnwrapped(outer({ flow, backend: address('10.0.0.1') }), flowIp(flow));
			});
		});
	}
});
