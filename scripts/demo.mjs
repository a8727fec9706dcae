// SPDX-License-Identifier: Apache-2.0
// `npm run demo`: sets the checkout up, then runs `xdpilot demo` as root with this very Node.
import { spawn } from 'node:child_process';
import { fail, ROOT, rootPrefix, setup } from './setup.mjs';

const args = process.argv.slice(2);
const wantsHelp = args.includes('--help') || args.includes('-h');
const source = args.find((_, i) => args[i - 1] === '--source') ?? args.find((a) => a.startsWith('--source='))?.slice(9) ?? 'etcd';

await setup({ yes: args.includes('--yes'), servers: source === 'file' ? [] : [source] });

const prefix = rootPrefix();
if (!prefix && !wantsHelp) fail('the demo makes network namespaces and loads XDP programs: run it as root, or install sudo');
// sudo drops the environment: hand over by name what the demo reads
const keep = ['CI', 'NO_COLOR', 'TERM', 'ETCD_BIN', 'CONSUL_BIN', 'XDPILOT_CACHE', 'XDPILOT_DEBUG', 'HOME'];
const env =
	(prefix ?? []).length > 0 ? ['env', ...keep.filter((k) => process.env[k] !== undefined).map((k) => `${k}=${process.env[k]}`)] : [];
const [command, ...rest] = [
	...(prefix ?? []),
	...env,
	process.execPath,
	`${ROOT}/dist/main.js`,
	'demo',
	...args.filter((a) => a !== '--yes'),
];

const child = spawn(command, rest, { stdio: 'inherit' });
// Ctrl-C reaches the demo through the terminal's process group; wait for it to clean up
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => signal !== 'SIGINT' && child.kill(signal));
child.on('error', (e) => fail(e.message));
child.on('exit', (code, signal) => process.exit(signal ? 130 : (code ?? 1)));
