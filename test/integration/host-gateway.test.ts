// SPDX-License-Identifier: Apache-2.0
// The gateway of an interface, found and followed on a real neighbour table.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemEnv } from '../../src/env.ts';
import { SystemHost } from '../../src/host/host.ts';
import { formatMac } from '../../src/host/interfaces.ts';
import { makeCable } from '../support/netns.ts';
import { until } from '../support/server-process.ts';
import { whyNoNamespace } from '../support/veth.ts';

const why = process.getuid?.() === 0 ? whyNoNamespace() : 'network namespaces need root';
const options = { skip: why ?? false, timeout: 60_000 };

test('finds the next hop of either family, and says so when there is none', options, async (t) => {
	const cable = makeCable(t, 'gw');
	const host = new SystemHost(systemEnv, cable.host);
	await assert.rejects(host.gateway('eth0'), { code: 'E_HOST', message: 'no default route leaves through eth0' });
	cable.ip(cable.next, 'link set gw0 address 02:00:00:00:66:01');

	cable.ip(cable.host, '-6 route add default via fd66::1');
	const six = await host.gateway('eth0');
	assert.deepEqual([six.address, six.family, formatMac(six.mac)], ['fd66::1', 6, '02:00:00:00:66:01']);

	cable.ip(cable.host, 'route add default via 10.66.0.77 metric 200');
	cable.ip(cable.host, 'route add default via 10.66.0.1 metric 100');
	const four = await host.gateway('eth0');
	assert.deepEqual([four.address, four.family, formatMac(four.mac)], ['10.66.0.1', 4, '02:00:00:00:66:01']);

	cable.ip(cable.host, 'route delete default via 10.66.0.1 metric 100');
	await assert.rejects(host.gateway('eth0'), { code: 'E_HOST', message: /10\.66\.0\.77 on eth0 doesn't answer/ });
});

test('reports a new MAC, a new next hop, and the loss of both, once each', options, async (t) => {
	const cable = makeCable(t, 'gww');
	const host = new SystemHost(systemEnv, cable.host);
	cable.ip(cable.next, 'link set gw0 address 02:00:00:00:66:01');
	cable.ip(cable.host, 'route add default via 10.66.0.1');
	const told: string[] = [];
	const watch = host.watchGateway('eth0', {
		changed: (g) => told.push(`${g.address} ${formatMac(g.mac)}`),
		lost: (reason) => told.push(reason),
	});
	t.after(() => watch.close());
	const expected = ['10.66.0.1 02:00:00:00:66:01'];
	await until('it is found', () => told.length >= expected.length);

	// Another machine takes the address over, and says so as they all do.
	cable.ip(cable.host, 'neigh replace 10.66.0.1 dev eth0 lladdr 02:00:00:00:66:02 nud reachable');
	expected.push('10.66.0.1 02:00:00:00:66:02');
	await until('the new MAC is reported', () => told.length >= expected.length);

	cable.ip(cable.next, 'address add 10.66.0.3/24 dev gw0');
	cable.ip(cable.host, 'route replace default via 10.66.0.3');
	expected.push('10.66.0.3 02:00:00:00:66:01');
	await until('the new next hop is reported', () => told.length >= expected.length);

	cable.ip(cable.host, 'route delete default');
	expected.push('no default route leaves through eth0');
	await until('the loss is reported', () => told.length >= expected.length);
	// Neighbours that are not the gateway are no news.
	cable.ip(cable.host, 'neigh replace 10.66.0.200 dev eth0 lladdr 02:00:00:00:66:99 nud reachable');
	await watch.close();
	assert.deepEqual(told, expected);
});

test('reads interfaces of the namespace it is given', options, async (t) => {
	const cable = makeCable(t, 'ifs');
	const host = new SystemHost(systemEnv, cable.host);
	const eth0 = await host.interface('eth0');
	assert.equal(eth0.mtu, 1500);
	assert.equal(eth0.up, true);
	assert.equal(eth0.mac.length, 6);
	const global = eth0.addresses.filter((a) => a.scope === 'global').map((a) => `${a.address}/${a.length}`);
	assert.deepEqual(global, ['10.66.0.2/24', 'fd66::2/64']);
	await assert.rejects(host.interface('eth9'), { code: 'E_HOST', hint: 'the interfaces here are lo, eth0' });
});
