// SPDX-License-Identifier: Apache-2.0
// Reading configurations: what is accepted and with which defaults, what is refused and how that is said.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { ConfigError, formatIssue } from '../../src/config/config-error.ts';
import { loadConfig, MAX_CONFIG_BYTES, parseConfig } from '../../src/config/load.ts';
import type { Config } from '../../src/config/schema.ts';
import { isXdpilotError } from '../../src/errors.ts';

const MINIMAL = `
datapath: { interface: eth0 }
sources:
  static: { kind: file, path: services.yaml }
pools:
  web: { from: { source: static, service: web } }
vips:
  - { address: 203.0.113.10, port: 443, protocol: tcp, pool: web }
`;

/** The lines that `check` would print for a text in a file called lb.yaml. */
function mistakes(text: string): string[] {
	try {
		parseConfig(text, 'lb.yaml');
	} catch (e) {
		assert.ok(e instanceof ConfigError, `unexpected ${e}`);
		assert.equal(e.code, 'E_CONFIG');
		return e.issues.map(formatIssue);
	}
	return [];
}

/** MINIMAL with one piece of text replaced. */
function minimalWith(from: string, to: string): string {
	assert.ok(MINIMAL.includes(from));
	return MINIMAL.replace(from, to);
}

async function withFolder(body: (folder: string) => void): Promise<void> {
	const folder = mkdtempSync(path.join(tmpdir(), 'xdpilot-config-'));
	try {
		body(folder);
	} finally {
		rmSync(folder, { recursive: true, force: true });
	}
}

test('fills in every default', () => {
	const config: Config = parseConfig(MINIMAL, '/etc/xdpilot/lb.yaml');
	assert.deepEqual(config.datapath.interfaces, ['eth0']);
	assert.equal(config.datapath.mode, 'auto');
	assert.equal(config.datapath.gateway_mac, 'auto');
	assert.equal(config.datapath.ring_size, 65_537);
	assert.equal(config.datapath.flow_entries, 4_000_000);
	assert.equal(config.datapath.udp_idle, 30_000);
	assert.equal(config.datapath.pin_path, '/sys/fs/bpf/xdpilot');
	assert.equal(config.control.socket, '/run/xdpilot/control.sock');
	assert.equal(config.log.level, 'info');
	assert.equal(config.allowed_backends, 'any');
	assert.deepEqual(config.pools.get('web'), {
		from: { source: 'static', service: 'web', tags: [] },
		hash: 'maglev-v2',
		encap: 'ipip',
		guard: { panic_threshold: 0.5, hold: 600_000 },
		debounce: { quiet: 50, max: 500 },
		drain: 30_000,
	});
	assert.deepEqual(config.vips, [{ prefix: { address: '203.0.113.10', length: 32 }, port: 443, protocol: 'tcp', pool: 'web', flags: [] }]);
});

test('derives the flow table from the expected flows unless it is given', () => {
	const entries = (keys: string) => parseConfig(minimalWith('interface: eth0', keys), 'lb.yaml').datapath.flow_entries;
	assert.equal(entries('expected_flows: 5000'), 20_000);
	assert.equal(entries('expected_flows: 5000, flow_entries: 4096'), 4096);
});

test('takes relative paths from the folder of the file', () => {
	const text = `
sources:
  static: { kind: file, path: services.yaml }
  c: { kind: consul, address: "https://[fd00::1]:8501", token_file: t/token, tls: { ca: ca.pem, cert: /abs/c.pem, key: k.pem } }
  e: { kind: etcd, username: lb, password_file: ../pw }
allowed_backends: any
`;
	const { sources } = parseConfig(text, '/etc/xdpilot/lb.yaml');
	assert.deepEqual(sources.get('static'), { kind: 'file', path: '/etc/xdpilot/services.yaml' });
	assert.deepEqual(sources.get('c'), {
		kind: 'consul',
		address: { kind: 'tcp', secure: true, host: 'fd00::1', port: 8501 },
		token_file: '/etc/xdpilot/t/token',
		tls: { ca: '/etc/xdpilot/ca.pem', cert: '/abs/c.pem', key: '/etc/xdpilot/k.pem' },
		stale: false,
		wait: 30_000,
	});
	assert.equal((sources.get('e') as { password_file: string }).password_file, '/etc/pw');
});

test('reads JSON, indented by tabs too', () => {
	const json = JSON.stringify(
		{ sources: { s: { kind: 'file', path: 'x' } }, pools: { p: { from: { source: 's', service: 'a' } } } },
		null,
		'\t',
	);
	assert.deepEqual([...parseConfig(json, 'lb.json').pools.keys()], ['p']);
});

test('normalises addresses, prefixes and flags once', () => {
	const text = minimalWith(
		'address: 203.0.113.10, port: 443, protocol: tcp, pool: web',
		'address: "2001:DB8:0::1", port: 0, protocol: udp, pool: web, flags: [udp_flow_migration, quic]',
	);
	const [vip] = parseConfig(text, 'lb.yaml').vips;
	assert.deepEqual(vip?.prefix, { address: '2001:db8::1', length: 128 });
	assert.deepEqual(vip?.flags, ['quic', 'udp_flow_migration']);
});

test('accepts Unix sockets and default ports of Consul', () => {
	const address = (text: string) => {
		const config = parseConfig(`sources: { c: { kind: consul, address: "${text}" } }\nallowed_backends: any`, 'lb.yaml');
		const source = config.sources.get('c');
		return source?.kind === 'consul' ? source.address : undefined;
	};
	assert.deepEqual(address('unix:///run/consul.sock'), { kind: 'unix', path: '/run/consul.sock' });
	assert.deepEqual(address('unix:/run/consul.sock'), { kind: 'unix', path: '/run/consul.sock' });
	assert.deepEqual(address('http://consul'), { kind: 'tcp', secure: false, host: 'consul', port: 8500 });
	assert.deepEqual(address('https://consul/'), { kind: 'tcp', secure: true, host: 'consul', port: 8501 });
});

test('reports all mistakes at once, in the order of the file, each with its place', () => {
	const text = `datapath:
  interfce: eth0
  mode: fast
  ring_size: 65536
sources:
  c: { kind: consul, address: "tcp://x" }
pools:
  web:
    from: { source: cc, service: web }
    guard: { panic_threshold: 500% }
vips:
  - { address: 203.0.113.10, port: 70000, protocol: tcp, pool: wbe, flags: [quic] }
`;
	assert.deepEqual(mistakes(text), [
		'lb.yaml:1:1: allowed_backends is missing: a registry must not decide alone where packets are sent; expected the prefixes that backends of c may lie in, such as [10.0.0.0/8], or "any"',
		'lb.yaml:2:3: datapath.interfce is not a key of the configuration; did you mean interface?',
		'lb.yaml:3:9: datapath.mode got "fast"; expected one of native, generic, auto',
		'lb.yaml:4:14: datapath.ring_size got 65536; expected a prime number, such as 65537 (default), 16381 or 131071',
		'lb.yaml:6:31: sources.c.address got "tcp://x"; expected http://HOST:PORT, https://HOST:PORT or unix:///PATH',
		'lb.yaml:9:21: pools.web.from.source names the source "cc", which is not configured; expected c',
		'lb.yaml:10:31: pools.web.guard.panic_threshold got "500%"; expected a percentage from 0% to 100%, such as "50%"',
		'lb.yaml:12:36: vips[0].port got 70000; expected a whole number from 0 to 65535',
		'lb.yaml:12:64: vips[0].pool names the pool "wbe", which is not configured; expected web',
		'lb.yaml:12:77: vips[0].flags[0] got quic on a tcp vip; expected protocol: udp with this flag',
	]);
});

const REFUSED: readonly (readonly [what: string, text: string, line: RegExp])[] = [
	['an empty file', '', /^lb\.yaml: is empty/],
	['a list', '[1, 2]', /is not a mapping of keys to values/],
	['a scalar', 'hello', /is not a mapping of keys to values/],
	['broken YAML', 'sources: [', /^lb\.yaml:1:\d+: Flow sequence/],
	['a tag', `${MINIMAL}log: !!js/function x`, /^lb\.yaml:9:6: .*tag/],
	['two documents', `${MINIMAL}---\nsources: {}`, /^lb\.yaml:9:1: a second document begins here/],
	['a key given twice', `${MINIMAL}vips: []`, /^lb\.yaml:9:1: this key is given a second time/],
	['nesting without end', `sources: ${'['.repeat(20_000)}${']'.repeat(20_000)}`, /is nested too deeply$/],
	['a key in the wrong place', `${MINIMAL}ring_size: 65537`, /ring_size is not a key of the configuration; it belongs under datapath$/],
	['__proto__ as a pool', minimalWith('web: { from', '__proto__: { from'), /pools\.__proto__ got the name "__proto__"; expected a name/],
	['a missing key', minimalWith('service: web', ''), /^lb\.yaml:6:10: pools\.web\.from\.service is missing/],
	[
		'a missing kind',
		minimalWith('kind: file, ', ''),
		/^lb\.yaml:4:3: sources\.static\.kind is missing; expected one of consul, etcd, file$/,
	],
	['an unknown kind', minimalWith('kind: file', 'kind: fil'), /got "fil"; expected one of consul, etcd, file \(did you mean file\?\)$/],
	[
		'a vip twice',
		`${MINIMAL}  - { address: 203.0.113.10/32, port: 443, protocol: tcp, pool: web }`,
		/vips\[1\] is 203\.0\.113\.10:443\/tcp again, as vips\[0\]/,
	],
	['a vip with host bits', minimalWith('203.0.113.10', '203.0.113.10/24'), /expected an address or a prefix without host bits/],
	['a loopback vip', minimalWith('203.0.113.10', '127.0.0.1'), /got 127\.0\.0\.1, a loopback address/],
	['every address as a vip', minimalWith('203.0.113.10', '0.0.0.0/0'), /vips\[0\]\.address/],
	['an octal address', minimalWith('203.0.113.10', '203.0.113.010'), /vips\[0\]\.address got "203\.0\.113\.010"/],
	['a port as text', minimalWith('port: 443', 'port: "443"'), /vips\[0\]\.port got "443"; expected a whole number from 0 to 65535/],
	['a port that is infinite', minimalWith('port: 443', 'port: 1e999'), /vips\[0\]\.port got Infinity/],
	[
		'a duration in words',
		minimalWith('service: web }', 'service: web }, drain: 5 minutes'),
		/drain got "5 minutes"; expected a duration from 0s to 1d/,
	],
	[
		'quiet longer than max',
		minimalWith('service: web }', 'service: web }, debounce: { quiet: 2s }'),
		/waits for 2s of quiet, but at most 500ms \(the default\)/,
	],
	['tags for a file', minimalWith('service: web }', 'service: web, tags: [a] }'), /from\.tags means nothing to a source of kind file/],
	[
		'a group MAC',
		minimalWith('interface: eth0', 'gateway_mac: "01:00:5e:00:00:01"'),
		/gateway_mac got "01:00:5e:00:00:01"; expected auto or the MAC/,
	],
	['an interface name too long', minimalWith('eth0', 'interface-of-16c'), /datapath\.interface got "interface-of-16c"; expected the name/],
	['a ring below its pools', minimalWith('interface: eth0', 'ring_size: 251'), /ring_size got 251, not above max_backends_per_pool = 4096/],
	[
		'a server id twice',
		minimalWith('interface: eth0', 'server_ids: [{ address: 10.0.0.1, ids: [7] }, { address: 10.0.0.2, ids: [9, 7] }]'),
		/server_ids\[1\]\.ids\[1\] gives the id 7 to 10\.0\.0\.1 already/,
	],
	[
		'a server outside the allowed backends',
		`${minimalWith('interface: eth0', 'server_ids: [{ address: 10.0.0.1, ids: [7] }]')}allowed_backends: [192.0.2.0/24]`,
		/server_ids\[0\]\.address got 10\.0\.0\.1, which is outside allowed_backends/,
	],
	[
		'an address that is no server',
		minimalWith('interface: eth0', 'source_routes: [{ prefixes: [10.0.0.0/8], backend: 224.0.0.1 }]'),
		/backend got 224\.0\.0\.1, a multicast address/,
	],
	[
		'a source prefix twice',
		minimalWith('interface: eth0', 'source_routes: [{ prefixes: [10.0.0.0/8, 10.0.0.0/8], backend: 10.0.0.1 }]'),
		/prefixes\[1\] routes 10\.0\.0\.0\/8 a second time/,
	],
	[
		'a password without user',
		'sources: { e: { kind: etcd, password_file: x } }\nallowed_backends: any',
		/sources\.e\.password_file stands without username/,
	],
	[
		'tls without https',
		'sources: { c: { kind: consul, tls: { ca: x } } }\nallowed_backends: any',
		/sources\.c\.tls is set, but the address is not https/,
	],
	[
		'http and https mixed',
		'sources: { e: { kind: etcd, endpoints: ["http://a", "https://b"] } }\nallowed_backends: any',
		/endpoints mixes http and https/,
	],
	[
		'a token in the file',
		'sources: { c: { kind: consul, token: s3cret } }\nallowed_backends: any',
		/sources\.c\.token is not a key of the configuration/,
	],
	['a flag twice', minimalWith('pool: web }', 'pool: web, flags: [no_flow_table, no_flow_table] }'), /has no_flow_table a second time/],
	[
		'flags that exclude each other',
		minimalWith('pool: web }', 'pool: web, flags: [hash_dest_port_only, hash_source_dest_port] }'),
		/has both hash_dest_port_only and hash_source_dest_port/,
	],
	[
		'more pools than the limit',
		minimalWith('interface: eth0', 'max_pools: 1').replace('vips:', '  b: { from: { source: static, service: b } }\nvips:'),
		/^lb\.yaml:5:1: pools has 2 entries; expected at most datapath\.max_pools = 1/,
	],
];

for (const [what, text, line] of REFUSED) {
	test(`refuses ${what}`, () => {
		const found = mistakes(text);
		assert.ok(
			found.some((m) => line.test(m)),
			`no line matches ${line}:\n${found.join('\n')}`,
		);
	});
}

test('never repeats a value that may be a secret', () => {
	const found = mistakes('sources: { c: { kind: consul, token: s3cret } }\nallowed_backends: any');
	assert.ok(found.length > 0 && found.every((line) => !line.includes('s3cret')));
});

test('an alias bomb is refused at once', () => {
	const levels = Array.from({ length: 12 }, (_, i) => `a${i}: &a${i} [${Array(10).fill(i === 0 ? 'x' : `*a${i - 1}`)}]`);
	assert.match(mistakes(levels.join('\n')).join('\n'), /aliases|alias/);
});

test('a few aliases are fine', () => {
	const text = `${MINIMAL.replace('vips:\n', 'vips:\n  - &v { address: 203.0.113.11, port: 80, protocol: tcp, pool: &p web }\n')}`.replace(
		'pool: web }',
		'pool: *p }',
	);
	assert.equal(parseConfig(text, 'lb.yaml').vips.length, 2);
});

test('refuses what is no small regular text file', async () => {
	await withFolder((folder) => {
		const file = (name: string, content: string | Buffer) => {
			writeFileSync(path.join(folder, name), content);
			return path.join(folder, name);
		};
		const messageFor = (name: string): string => {
			try {
				loadConfig(name);
			} catch (e) {
				assert.ok(isXdpilotError(e) && e.code === 'E_CONFIG' && e.exitStatus === 78, `unexpected ${e}`);
				return e instanceof ConfigError ? e.issues.map(formatIssue).join('\n') : e.message;
			}
			return 'accepted';
		};
		execFileSync('mkfifo', [path.join(folder, 'fifo')]);
		assert.match(messageFor(path.join(folder, 'fifo')), /is not a regular file/);
		assert.match(messageFor(path.join(folder, 'absent')), /can't read .*absent: there is no such file/);
		assert.match(messageFor(folder), /is not a regular file/);
		assert.match(messageFor(file('big', `# ${'x'.repeat(MAX_CONFIG_BYTES)}`)), /has \d+ bytes; expected at most 1048576/);
		assert.match(messageFor(file('latin1', Buffer.from([0x61, 0x3a, 0x20, 0xff]))), /is not UTF-8 text/);
	});
});

test('any document is either accepted or refused with a place, never anything else', () => {
	const scalar = fc.oneof(fc.string(), fc.integer(), fc.double(), fc.boolean(), fc.constant(null));
	const keys = ['datapath', 'sources', 'pools', 'vips', 'allowed_backends', 'control', 'from', 'kind', 'flags', '__proto__', 'constructor'];
	const { document } = fc.letrec((tie) => ({
		document: fc.oneof(
			{ depthSize: 'small' },
			scalar,
			fc.array(tie('document'), { maxLength: 3 }),
			fc.dictionary(fc.constantFrom(...keys), tie('document')),
		),
	}));
	fc.assert(
		fc.property(fc.dictionary(fc.constantFrom(...keys), document), (value) => {
			for (const line of mistakes(JSON.stringify(value))) assert.match(line, /^lb\.yaml(:\d+:\d+)?: /);
		}),
		{ numRuns: 300 },
	);
});

for (const suite of ['base', 'icmp_toobig', 'lpm_src']) {
	const file = path.resolve(import.meta.dirname, `../../../shared/fixtures/katran/${suite}.json`);
	test(`the configuration of the reference suite ${suite} is valid as it stands`, {
		skip: !existsSync(file) && '../shared is not here',
	}, () => {
		const { config } = JSON.parse(readFileSync(file, 'utf8')) as { config: unknown };
		assert.deepEqual(mistakes(JSON.stringify(config)), []);
	});
}
