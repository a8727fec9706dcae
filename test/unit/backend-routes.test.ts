// SPDX-License-Identifier: Apache-2.0
// How the backend agent reads default routes and what it makes of them: nothing but advmss may change.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DefaultRoute, fittingMss, neededRouteChange, parseDefaultRoutes, sameRoute } from '../../src/backend-agent/routes.ts';

function parseOne(text: string, family: 4 | 6 = 4): DefaultRoute {
	const [route, ...more] = parseDefaultRoutes(text, family);
	assert.deepEqual(more, []);
	assert.ok(route !== undefined);
	return route;
}

test('keeps every word of a route but advmss and its present condition', () => {
	const route = parseOne('default via 10.1.0.1 dev eth0 proto dhcp src 10.1.0.2 metric 100 advmss 1400 linkdown \n');
	assert.equal(route.words.join(' '), 'default via 10.1.0.1 dev eth0 proto dhcp src 10.1.0.2 metric 100');
	assert.equal(route.advmss, 1400);
	assert.equal(route.isAdvertised, false);
});

test('joins the lines of a multipath route', () => {
	const text = 'default metric 2000 \n\tnexthop via 10.1.0.3 dev eth0 weight 1 \n\tnexthop via 10.1.0.4 dev eth0 weight 1 dead \n';
	assert.equal(
		parseOne(text).words.join(' '),
		'default metric 2000 nexthop via 10.1.0.3 dev eth0 weight 1 nexthop via 10.1.0.4 dev eth0 weight 1',
	);
});

test('asks for a smaller advmss only where the route offers more', () => {
	const plain = parseOne('default via 10.1.0.1 dev eth0\n');
	assert.deepEqual(neededRouteChange(plain, 1420), {
		family: 4,
		kind: 'replaced',
		route: ['default', 'via', '10.1.0.1', 'dev', 'eth0'],
		advmss: 1420,
		previous: null,
	});
	assert.equal(neededRouteChange({ ...plain, advmss: 1420 }, 1420), undefined);
	assert.equal(neededRouteChange({ ...plain, advmss: 1000 }, 1420), undefined);
	assert.equal(neededRouteChange({ ...plain, advmss: 1460 }, 1420)?.previous, 1460);
});

test('puts a copy in front of a route that a router advertises, instead of taking it from the kernel', () => {
	const text = 'default via fe80::1 dev eth0 proto ra metric 1024 expires 1797sec hoplimit 64 pref medium\n';
	const route = parseOne(text, 6);
	assert.equal(route.isAdvertised, true);
	assert.ok(route.words.includes('1797'), 'expires is given back as ip-route(8) takes it');
	const change = neededRouteChange(route, 1400);
	assert.equal(change?.kind, 'added');
	assert.equal(change?.route.join(' '), 'default via fe80::1 dev eth0 hoplimit 64 metric 1023');
});

test('knows a route again although its lifetime has changed', () => {
	const then = parseOne('default via fe80::1 dev eth0 proto ra metric 1024 expires 1797sec pref medium\n', 6);
	const now = parseOne('default via fe80::1 dev eth0 proto ra metric 1024 expires 12sec pref medium\n', 6);
	const other = parseOne('default via fe80::2 dev eth0 proto ra metric 1024 expires 12sec pref medium\n', 6);
	assert.equal(sameRoute(then.words, now.words), true);
	assert.equal(sameRoute(then.words, other.words), false);
});

test('leaves room for the outer header and the inner ones', () => {
	assert.equal(fittingMss(4, 1500, 20), 1440);
	assert.equal(fittingMss(4, 1500, 40), 1420);
	assert.equal(fittingMss(6, 1500, 40), 1400);
	assert.throws(() => fittingMss(6, 576, 40), { code: 'E_HOST', message: /MTU of 576/ });
});
