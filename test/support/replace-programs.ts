// SPDX-License-Identifier: Apache-2.0
// Opens the datapath of an interface as the daemon does, again and again, each time with another option: each time the
// program is replaced on the maps that are there. Ends with the option that the configuration has. Arguments:
// configuration, interface, how often. Prints how many different programs ran.
import { loadConfig } from '../../src/config/load.ts';
import { datapathOptions } from '../../src/daemon/settings.ts';
import { openDatapath } from '../../src/datapath/open.ts';
import { instancePath, LINK_PINS } from '../../src/datapath/pins.ts';
import { systemEnv } from '../../src/env.ts';
import { SystemHost } from '../../src/host/host.ts';
import { silentLogger } from '../../src/log.ts';
import { loadNative } from '../../src/native/binding.ts';

const [configPath = '', name = '', times = ''] = process.argv.slice(2);
const native = loadNative();
const config = loadConfig(configPath);
const host = new SystemHost(systemEnv);
const nic = await host.interface(name);
const facts = { own: [], interface: nic.addresses.map((a) => a.address), gatewayMac: (await host.gateway(name)).mac };
const wanted = datapathOptions(config, facts);
const target = { on: { name, ifindex: nic.index }, mode: config.datapath.mode, pinPath: config.datapath.pin_path };
const around = { native, env: systemEnv, log: silentLogger() };
const programs = new Set<number>();

function programId(): number {
	const link = native.BpfLink.open(`${instancePath(target.pinPath, nic.index)}/${LINK_PINS.native}`);
	const { programId: id } = link.info();
	link.close();
	return id;
}

for (let left = Number(times); left > 0; left--) {
	const before = programId();
	const datapath = await openDatapath(around, left === 1 ? wanted : { ...wanted, udpIdleMs: wanted.udpIdleMs + left * 1000 }, target);
	await datapath.close();
	if (programId() !== before) programs.add(programId());
}
process.stdout.write(`${programs.size}\n`);
