// SPDX-License-Identifier: Apache-2.0
// The tables over plain memory: what is written is read back, in an order of stores that packets and later daemons
// can rely on.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
	BACKEND_COUNTER_SIZE,
	BACKEND_SIZE,
	CPU_COUNTERS_OFFSET,
	CPU_COUNTERS_SIZE,
	decodeBackend,
	LbCounter,
	LbDrop,
	POOL_ROW_SIZE,
	VIP_COUNTER_SIZE,
} from '../../src/datapath/abi.gen.ts';
import { BackendTable } from '../../src/datapath/backend-table.ts';
import { Counters } from '../../src/datapath/counters.ts';
import { PoolTable } from '../../src/datapath/pool-table.ts';
import { isXdpilotError } from '../../src/errors.ts';
import { address } from '../../src/model/address.ts';

const MAC = Uint8Array.of(0x02, 0x11, 0x22, 0x33, 0x44, 0x55);
const ENTRIES = 8;

function backendTable(own: string[] = []) {
	const memory = new ArrayBuffer(ENTRIES * BACKEND_SIZE);
	return { memory, table: new BackendTable(memory, ENTRIES, MAC, new Set(own.map(address))) };
}

const entry = (id: number, text: string, over = {}) =>
	({ id, address: address(text), pool: 5, state: 'active', encap: 'ipip', local: false, ...over }) as const;

test('a backend is read back as it was made', () => {
	const { table } = backendTable(['10.0.0.9']);
	table.create(entry(1, '10.0.0.1'));
	table.create(entry(2, 'fc00::1', { state: 'draining', encap: 'gue', local: true }));
	table.create(entry(3, '10.0.0.9', { state: 'down' }));
	table.setWeight(2, 65535);
	assert.deepEqual(table.read(), [
		{ ...entry(1, '10.0.0.1'), self: false, weight: 0 },
		{ ...entry(2, 'fc00::1', { state: 'draining', encap: 'gue', local: true }), self: false, weight: 65535 },
		{ ...entry(3, '10.0.0.9', { state: 'down' }), self: true, weight: 0 },
	]);
});

test('the link word holds the gateway in wire order, then flags and state', () => {
	const { memory, table } = backendTable();
	table.create(entry(1, 'fc00::1'));
	assert.deepEqual([...new Uint8Array(memory, BACKEND_SIZE, 8)], [...MAC, 1, 1]);
});

test('the partial checksum is that of the constant words of the outer header', () => {
	const { memory, table } = backendTable();
	table.create(entry(1, '10.1.2.3'));
	const bytes = [0x45, 0x00, 0x40, 0x04, 0xac, 0x10, 10, 1, 2, 3];
	let sum = 0;
	for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i] ?? 0) + ((bytes[i + 1] ?? 0) << 8);
	assert.equal(decodeBackend(new DataView(memory), BACKEND_SIZE).csum4, sum);
});

test('an unchanged backend is not stored again', () => {
	const { table } = backendTable();
	table.create(entry(1, '10.0.0.1'));
	assert.equal(table.set(entry(1, '10.0.0.1')), false);
	assert.equal(table.set(entry(1, '10.0.0.1', { state: 'down' })), true);
});

test('a new gateway reaches every used entry, and no free one', () => {
	const { memory, table } = backendTable();
	table.create(entry(1, '10.0.0.1', { state: 'draining' }));
	table.setGateway(Uint8Array.of(2, 0, 0, 0, 0, 9));
	assert.deepEqual([...new Uint8Array(memory, BACKEND_SIZE, 8)], [2, 0, 0, 0, 0, 9, 0, 2]);
	assert.deepEqual([...new Uint8Array(memory, 2 * BACKEND_SIZE, 8)], new Array(8).fill(0));
	table.create(entry(2, '10.0.0.2'));
	assert.equal(new Uint8Array(memory, 2 * BACKEND_SIZE)[5], 9);
});

test('a retired backend keeps its entry until it is cleared', () => {
	const { table } = backendTable();
	table.create(entry(1, '10.0.0.1'));
	table.retire(1);
	assert.equal(table.entry(1)?.state, 'retired');
	table.clear(1);
	assert.equal(table.entry(1), undefined);
	assert.deepEqual(table.read(), []);
});

const RECORD = { hash: 'maglev-v1', inputs: new Uint8Array(32).fill(1), digest: new Uint8Array(32).fill(2), members: 3 } as const;

test('a pool row tells in which phase its ring is', () => {
	const pools = new PoolTable(new ArrayBuffer(4 * POOL_ROW_SIZE), 4);
	pools.create(2, 'wéb');
	assert.deepEqual(pools.read(), [{ number: 2, name: 'wéb', phase: 'none', generation: 0, ring: undefined }]);
	pools.begin(2, 7, RECORD);
	assert.equal(pools.read()[0]?.phase, 'pending');
	pools.finish(2);
	assert.deepEqual(pools.read(), [{ number: 2, name: 'wéb', phase: 'final', generation: 7, ring: RECORD }]);
	pools.clear(2);
	assert.deepEqual(pools.read(), []);
});

test('a pool name that fills its field, or none at all, is refused', () => {
	const pools = new PoolTable(new ArrayBuffer(2 * POOL_ROW_SIZE), 2);
	pools.create(1, 'x'.repeat(127));
	assert.equal(pools.read()[0]?.name.length, 127);
	for (const name of ['x'.repeat(128), 'é'.repeat(64), '']) {
		assert.throws(
			() => pools.create(0, name),
			(e) => isXdpilotError(e) && e.code === 'E_LIMIT',
		);
	}
});

test('a row without the first byte of its name is unused: a daemon died while making it', () => {
	const memory = new ArrayBuffer(2 * POOL_ROW_SIZE);
	const pools = new PoolTable(memory, 2);
	pools.create(1, 'web');
	new Uint8Array(memory)[POOL_ROW_SIZE] = 0;
	assert.deepEqual(pools.read(), []);
});

test('counters are the sums of all CPUs, and a number that is cleared starts anew', () => {
	const [cpus, lines] = [3, { vips: 4, backends: 5 }];
	const memory = {
		vips: new ArrayBuffer(cpus * lines.vips * VIP_COUNTER_SIZE),
		backends: new ArrayBuffer(cpus * lines.backends * BACKEND_COUNTER_SIZE),
		cpus: new ArrayBuffer(cpus * CPU_COUNTERS_SIZE),
	};
	const counters = new Counters(memory, cpus, lines);
	const [vips, backends, global] = [new BigUint64Array(memory.vips), new BigUint64Array(memory.backends), new BigUint64Array(memory.cpus)];
	for (let cpu = 0; cpu < cpus; cpu++) {
		const n = BigInt(cpu + 1);
		vips.set([n, 10n * n, 0n, 100n * n], ((cpu * lines.vips + 2) * VIP_COUNTER_SIZE) / 8);
		backends.set([n, 10n * n], ((cpu * lines.backends + 3) * BACKEND_COUNTER_SIZE) / 8);
		global[(cpu * CPU_COUNTERS_SIZE) / 8 + LbCounter.CNT_ECHO_REPLY] = n;
		global[(cpu * CPU_COUNTERS_SIZE) / 8 + LbCounter.CNT_QUIC_ID_UNKNOWN_LAST] = cpu === 1 ? 77n : 0n;
		global[(cpu * CPU_COUNTERS_SIZE + CPU_COUNTERS_OFFSET.drop) / 8 + LbDrop.DROP_POOL_EMPTY] = n;
	}
	assert.deepEqual(counters.vip(2), { packets: 6n, bytes: 60n, newFlows: 600n });
	assert.deepEqual(counters.vip(1), { packets: 0n, bytes: 0n, newFlows: 0n });
	assert.deepEqual(counters.backend(3), { packets: 6n, bytes: 60n });
	assert.equal(counters.global().echo_reply, 6n);
	assert.equal(counters.global().quic_id_unknown_last, 77n);
	assert.equal(counters.drops().pool_empty, 6n);
	counters.clearVip(2);
	counters.clearBackend(3);
	assert.deepEqual([counters.vip(2).packets, counters.backend(3).bytes], [0n, 0n]);
});
