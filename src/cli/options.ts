// SPDX-License-Identifier: Apache-2.0
// Options that several commands have, each described once.
import { InvalidArgumentError, Option } from 'commander';

export const DEFAULT_CONFIG = '/etc/xdpilot/xdpilot.yaml';
export const DEFAULT_SOCKET = '/run/xdpilot/control.sock';
export const DEFAULT_PIN_PATH = '/sys/fs/bpf/xdpilot';

export function configOption(): Option {
	return new Option('-c, --config <file>', 'configuration').default(DEFAULT_CONFIG);
}

export function jsonOption(): Option {
	return new Option('--json', 'print JSON, a stable interface');
}

export function socketOption(): Option {
	return new Option('--socket <path>', "the daemon's control socket (control.socket)").default(DEFAULT_SOCKET);
}

export function pinPathOption(): Option {
	return new Option('--pin-path <folder>', 'where programs and maps are pinned (datapath.pin_path)').default(DEFAULT_PIN_PATH);
}

/** A number of seconds above 0. */
export function secondsOption(flags: string, description: string, initial: number): Option {
	return new Option(flags, description).default(initial).argParser((text) => {
		const seconds = Number(text);
		if (!/^\d{1,6}(\.\d{1,3})?$/.test(text) || seconds <= 0) throw new InvalidArgumentError('A number of seconds above 0 is expected.');
		return seconds;
	});
}
