// SPDX-License-Identifier: Apache-2.0
// What is told to the service manager, and flows as text.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isXdpilotError } from '../../src/errors.ts';
import { flowQuery, parseFlow, parseFlowQuery } from '../../src/observe/flow-query.ts';
import { ServiceNotifier, watchdogInterval } from '../../src/observe/notify.ts';

function recording(): { sent: string[]; notifier: ServiceNotifier } {
	const sent: string[] = [];
	const send = (state: string) => {
		sent.push(state);
		return true;
	};
	return { sent, notifier: new ServiceNotifier(send, () => 42n) };
}

test('a reload carries the time by which systemd matches its end', () => {
	const { sent, notifier } = recording();
	notifier.ready('serving 1 vip');
	notifier.reloading();
	notifier.ready('serving 2 vips');
	notifier.stopping('traffic goes on');
	assert.deepEqual(sent, [
		'READY=1\nSTATUS=serving 1 vip',
		'RELOADING=1\nMONOTONIC_USEC=42',
		'READY=1\nSTATUS=serving 2 vips',
		'STOPPING=1\nSTATUS=traffic goes on',
	]);
});

test('an unchanged status is not sent again, and a newline can not smuggle a message in', () => {
	const { sent, notifier } = recording();
	notifier.status('held: x\nREADY=1');
	notifier.status('held: x\nREADY=1');
	notifier.watchdog();
	assert.deepEqual(sent, ['STATUS=held: x READY=1', 'WATCHDOG=1']);
});

test('a manager that is gone is no error', () => {
	const notifier = new ServiceNotifier(() => {
		throw new Error('ECONNREFUSED');
	});
	notifier.ready('x');
});

test('the watchdog is fed at twice the rate that is asked of this process', () => {
	assert.equal(watchdogInterval({ WATCHDOG_USEC: '15000000' }, 7), 7500);
	assert.equal(watchdogInterval({ WATCHDOG_USEC: '15000000', WATCHDOG_PID: '7' }, 7), 7500);
	assert.equal(watchdogInterval({ WATCHDOG_USEC: '15000000', WATCHDOG_PID: '8' }, 7), undefined);
	for (const WATCHDOG_USEC of [undefined, '', '0', '-1', 'x', '1e999']) {
		assert.equal(watchdogInterval(WATCHDOG_USEC === undefined ? {} : { WATCHDOG_USEC }, 7), undefined);
	}
});

test('flows are read from text in both families', () => {
	assert.deepEqual(parseFlow('192.0.2.7:40000', '203.0.113.10:443/tcp'), {
		source: '192.0.2.7',
		sourcePort: 40_000,
		dest: '203.0.113.10',
		destPort: 443,
		protocol: 'tcp',
	});
	assert.deepEqual(parseFlow('[2001:db8::7]:1', '[2001:DB8:1::0]:0/udp'), {
		source: '2001:db8::7',
		sourcePort: 1,
		dest: '2001:db8:1::',
		destPort: 0,
		protocol: 'udp',
	});
	const query = new URLSearchParams(flowQuery('[2001:db8::7]:1', '[2001:db8:1::]:80/tcp'));
	assert.deepEqual(parseFlowQuery(query), parseFlow('[2001:db8::7]:1', '[2001:db8:1::]:80/tcp'));
});

test('what is no flow is a usage error that shows one', () => {
	const wrong: readonly (readonly [string, string])[] = [
		['', ''],
		['192.0.2.7', '203.0.113.10:443/tcp'],
		['192.0.2.7:65536', '203.0.113.10:443/tcp'],
		['192.0.2.7:1', '203.0.113.10:443'],
		['192.0.2.7:1', '203.0.113.10:443/icmp'],
		['192.0.2.7:1', '[2001:db8::1]:443/tcp'],
		['2001:db8::7:1', '[2001:db8::1]:443/tcp'],
		['[192.0.2.7]:1', '203.0.113.10:443/tcp'],
		['192.0.2.07:1', '203.0.113.10:443/tcp'],
		['[fe80::1%eth0]:1', '[2001:db8::1]:443/tcp'],
	];
	for (const [source, dest] of wrong) {
		assert.throws(
			() => parseFlow(source, dest),
			(e) => isXdpilotError(e) && e.code === 'E_USAGE' && (e.hint ?? '').startsWith('xdpilot why'),
			`${source} ${dest}`,
		);
	}
});
