// SPDX-License-Identifier: Apache-2.0
// What the flow table promises: flows stay where they are when the ring changes, and nothing stays longer than it may.
// "The ring changes" here always means: to one in which every slot has another backend.
import assert from 'node:assert/strict';
import { after, beforeEach, suite, test } from 'node:test';
import { address } from '../../src/model/address.ts';
import { loadNative } from '../../src/native/binding.ts';
import { LbInstance, type LbSettings, outerDestination } from '../support/lb-instance.ts';
import { type FlowPacket, flowFrame, icmp, ip, PROTOCOL, TCP, transport } from '../support/packet-builder.ts';
import { whyNoBpf } from '../support/privileged.ts';

const OLD = '10.0.0.1';
const NEW = '10.0.0.2';
const OLD6 = 'fc00::1';
const NEW6 = 'fc00::2';
const VIPS = [
	{ address: '10.200.1.1', port: 80, pool: 1 },
	{ address: '10.200.1.1', port: 80, protocol: 'udp', pool: 1 },
	{ address: 'fc00:1::1', port: 80, pool: 2 },
	{ address: 'fc00:1::1', port: 80, protocol: 'udp', pool: 2 },
	{ address: '10.200.1.2', port: 0, pool: 1 },
	{ address: '10.200.1.3', port: 80, pool: 1, flags: ['hash_no_source_port'] },
	{ address: '10.200.1.4', port: 0, pool: 1, flags: ['hash_dest_port_only'] },
	{ address: '10.200.1.5', port: 80, pool: 1, flags: ['no_flow_table'] },
	{ address: '10.200.1.6', port: 0, pool: 1, flags: ['hash_source_dest_port'] },
	{ address: 'fc00:1::3', port: 80, pool: 2, flags: ['hash_no_source_port'] },
] as const;

type Send = Partial<Omit<FlowPacket, 'source' | 'dest'>> & { readonly from?: string; readonly to?: string };

suite('flow table', { skip: whyNoBpf() ?? false }, () => {
	const open: LbInstance[] = [];
	let lb: LbInstance;

	function instance(settings: LbSettings = {}): LbInstance {
		// A clock so slow that it stands still for a test: entries age only when a test says so.
		const made = new LbInstance(loadNative(), { ...settings, config: { clockShift: 20, ...settings.config } });
		open.push(made);
		made.setVips(VIPS);
		for (const [i, a] of [OLD, NEW, OLD6, NEW6].entries()) made.setBackend(i + 1, a);
		made.setRing(1, [1]);
		made.setRing(2, [3]);
		return made;
	}

	function changeRings(on = lb): void {
		on.setRing(1, [2]);
		on.setRing(2, [4]);
	}

	function packet({ from = '192.168.1.1', to = '10.200.1.1', ...more }: Send): FlowPacket {
		return { source: address(from), dest: address(to), sourcePort: 31337, destPort: 80, ...more };
	}

	/** Where a packet of the flow goes; the drop reason if nowhere. */
	function send(s: Send = {}, on = lb): string {
		const { verdict, out, reason } = on.run(flowFrame(packet(s)));
		return verdict === 'tx' ? outerDestination(out) : (reason ?? verdict);
	}

	beforeEach(() => {
		for (const one of open.splice(0)) one.close();
		lb = instance();
	});
	after(() => {
		for (const one of open.splice(0)) one.close();
	});

	const families = { IPv4: { flow: {}, old: OLD, now: NEW }, IPv6: { flow: { from: 'fc00:2::1', to: 'fc00:1::1' }, old: OLD6, now: NEW6 } };
	for (const [family, { flow, old, now }] of Object.entries(families)) {
		test(`keeps an ${family} TCP flow on its backend when the ring changes`, () => {
			send({ ...flow, flags: TCP.syn });
			changeRings();
			assert.equal(send(flow), old);
			assert.equal(send({ ...flow, flags: TCP.ack | TCP.fin }), old);
		});

		test(`keeps an ${family} UDP flow on its backend when the ring changes`, () => {
			send({ ...flow, flags: 'udp' });
			changeRings();
			assert.equal(send({ ...flow, flags: 'udp' }), old);
		});

		test(`remembers an ${family} flow that it first meets in the middle`, () => {
			send(flow);
			changeRings();
			assert.equal(send(flow), old);
		});

		test(`moves an ${family} flow for good when it begins anew with a SYN`, () => {
			send(flow);
			changeRings();
			assert.equal(send({ ...flow, flags: TCP.syn }), now);
			assert.equal(send(flow), now);
			assert.equal(lb.flowEntries().length, 1, 'its entry was written over');
		});

		test(`does not remember an unknown ${family} flow from a reset`, () => {
			assert.equal(send({ ...flow, flags: TCP.rst }), old);
			assert.equal(lb.flowEntries().length, 0);
		});

		test(`sends a reset of a known ${family} flow where the flow went`, () => {
			send(flow);
			changeRings();
			assert.equal(send({ ...flow, flags: TCP.rst }), old);
			assert.equal(send(flow), old, 'and does not forget the flow');
		});

		test(`forgets an ${family} UDP flow that was idle for 30 seconds, and reuses its entry`, () => {
			send({ ...flow, flags: 'udp' });
			changeRings();
			lb.ageFlows(lb.config.udpIdle);
			assert.equal(send({ ...flow, flags: 'udp' }), old, 'not yet');
			lb.ageFlows(lb.config.udpIdle + 1);
			const counted = lb.counted(() => assert.equal(send({ ...flow, flags: 'udp' }), now));
			assert.equal(counted.flow_idle, 1);
			assert.equal(lb.flowEntries().length, 1);
		});

		test(`tells ${family} flows apart by each of their parts`, () => {
			const others: Send[] = [
				{ ...flow, sourcePort: 31338 },
				{ ...flow, from: family === 'IPv4' ? '192.168.1.2' : 'fc00:2::2' },
				{ ...flow, from: family === 'IPv4' ? '193.168.1.1' : 'fd00:2::1' },
				{ ...flow, flags: 'udp' },
			];
			send(flow);
			changeRings();
			for (const other of others) assert.equal(send(other), now, JSON.stringify(other));
			assert.equal(send(flow), old);
		});
	}

	test('never forgets a TCP flow by age alone', () => {
		send();
		changeRings();
		lb.ageFlows(10 * lb.config.udpIdle);
		assert.equal(send(), OLD);
	});

	test('rehashes the flows of a backend that is down, and keeps those of one that drains', () => {
		send();
		send({ flags: 'udp' });
		changeRings();
		lb.setBackend(1, OLD, 'draining');
		assert.equal(send(), OLD);
		lb.setBackend(1, OLD, 'down');
		const counted = lb.counted(() => assert.equal(send(), NEW));
		assert.equal(counted.flow_backend_gone, 1);
		lb.setBackend(1, OLD, 'active');
		assert.equal(send(), NEW, 'the entry was written over');
		assert.equal(send({ flags: 'udp' }), OLD, 'this one was not touched meanwhile');
	});

	test('rehashes the flows of a retired backend', () => {
		send();
		changeRings();
		lb.backends.retire(1);
		assert.equal(send(), NEW);
	});

	test('uses a backend that went down as long as the ring has nothing else', () => {
		lb.setBackend(1, OLD, 'down');
		assert.equal(send(), OLD);
	});

	test('takes all destination ports of a port-0 vip for one flow, unless the vip tells them apart', () => {
		send({ to: '10.200.1.2', destPort: 1000 });
		send({ to: '10.200.1.6', destPort: 1000 });
		changeRings();
		assert.equal(send({ to: '10.200.1.2', destPort: 2000 }), OLD);
		assert.equal(send({ to: '10.200.1.6', destPort: 2000 }), NEW);
		assert.equal(send({ to: '10.200.1.6', destPort: 1000 }), OLD);
	});

	test('takes all source ports of a client for one flow with hash_no_source_port', () => {
		send({ to: '10.200.1.3', sourcePort: 1 });
		send({ from: 'fc00:2::1', to: 'fc00:1::3', sourcePort: 1 });
		changeRings();
		assert.equal(send({ to: '10.200.1.3', sourcePort: 2 }), OLD);
		assert.equal(send({ from: 'fc00:2::1', to: 'fc00:1::3', sourcePort: 2 }), OLD6);
		assert.equal(lb.flowEntries().length, 2);
	});

	test('remembers each client of a vip that hashes its destination port only', () => {
		send({ to: '10.200.1.4', sourcePort: 1 });
		changeRings();
		assert.equal(send({ to: '10.200.1.4', sourcePort: 1 }), OLD);
		assert.equal(send({ to: '10.200.1.4', sourcePort: 2 }), NEW);
	});

	test('is left alone by vips with no_flow_table', () => {
		send({ to: '10.200.1.5' });
		changeRings();
		assert.equal(send({ to: '10.200.1.5' }), NEW);
		assert.equal(lb.flowEntries().length, 0);
	});

	test('sends ICMP errors to the backend of the flow that they quote, also after the ring changed', () => {
		const flow = packet({});
		send();
		changeRings();
		const reversed = { ...flow, source: flow.dest, dest: flow.source, sourcePort: flow.destPort, destPort: flow.sourcePort };
		const quote = ip(reversed.source, reversed.dest, PROTOCOL.tcp, transport(reversed));
		const { out } = lb.run(icmp(address('10.9.9.9'), flow.dest, { type: 3, code: 4, payload: quote }));
		assert.equal(outerDestination(out), OLD);
	});

	test('marks a flow as established by its second packet', () => {
		send({ flags: TCP.syn });
		assert.deepEqual(
			lb.flowEntries().map((e) => e.established),
			[false],
		);
		send();
		assert.deepEqual(
			lb.flowEntries().map((e) => e.established),
			[true],
		);
	});

	test('notes when a flow was last seen', () => {
		send();
		const [entry] = lb.flowEntries();
		lb.ageFlows(1000);
		send();
		assert.equal(lb.flowEntries()[0]?.time, entry?.time);
	});

	suite('when a bucket is full', () => {
		let tiny: LbInstance;
		const WAYS = 8;

		beforeEach(() => {
			tiny = instance({ options: { flowEntries: WAYS } });
		});

		test('gives up the oldest flow', () => {
			for (let i = 0; i < WAYS; i++) {
				send({ sourcePort: 1000 + i }, tiny);
				tiny.ageFlows(1);
			}
			changeRings(tiny);
			assert.equal(send({ sourcePort: 2000 }, tiny), NEW);
			for (let i = 1; i < WAYS; i++) assert.equal(send({ sourcePort: 1000 + i }, tiny), OLD, `flow ${i}`);
			assert.equal(tiny.flowEntries().length, WAYS);
		});

		test('does not let a flood of SYNs evict flows that are alive', () => {
			for (let i = 0; i < WAYS - 1; i++) {
				send({ sourcePort: 1000 + i }, tiny);
				send({ sourcePort: 1000 + i }, tiny);
			}
			changeRings(tiny);
			for (let i = 0; i < 1000; i++) send({ from: `10.${i >> 8}.${i & 255}.7`, flags: TCP.syn }, tiny);
			for (let i = 0; i < WAYS - 1; i++) assert.equal(send({ sourcePort: 1000 + i }, tiny), OLD, `flow ${i}`);
		});

		test('gives up an established flow that is eight times as old as any new one', () => {
			send({ sourcePort: 1000 }, tiny);
			send({ sourcePort: 1000 }, tiny);
			tiny.ageFlows(100);
			for (let i = 1; i < WAYS; i++) send({ sourcePort: 1000 + i }, tiny);
			tiny.ageFlows(5);
			changeRings(tiny);
			send({ sourcePort: 2000 }, tiny);
			assert.equal(send({ sourcePort: 1000 }, tiny), NEW, 'the established flow had age 105, the others 5');
		});
	});

	test('takes an entry whose halves do not belong together for a miss', () => {
		send();
		const at = lb.flows.findIndex((word) => word !== 0n) & ~1;
		changeRings();
		// The second word of another backend, as a reader could see it in the middle of an overwrite.
		lb.flows[at + 1] = (lb.flows[at + 1] ?? 0n) ^ (3n << 16n);
		assert.equal(send(), NEW);
	});

	test('remembers no more new flows in a second than it may, and goes on balancing', () => {
		const limited = instance({ options: { newFlowLimit: 5 } });
		const counted = limited.counted(() => {
			for (let i = 0; i < 60; i++) assert.equal(send({ sourcePort: 1000 + i }, limited), OLD);
		});
		const remembered = limited.flowEntries().length;
		assert.ok(remembered >= 5 && remembered < 60, `${remembered} remembered`);
		assert.equal(counted.new_flow_limited, 60 - remembered);
	});

	test('is one for each CPU if asked', () => {
		const perCpu = instance({ options: { flowTable: 'per_cpu' } });
		assert.equal(send({}, perCpu), OLD);
		assert.equal(perCpu.flowEntries().length, 1);
		assert.equal(perCpu.maps.flows.info().maxEntries, perCpu.config.flowBuckets * loadNative().possibleCpus());
	});
});
