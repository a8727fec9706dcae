// SPDX-License-Identifier: Apache-2.0
// The composition root: names the concrete classes, wires them, and gives the process's signals their meaning. No
// decision is taken here. SIGTERM and SIGINT stop, leaving the data plane forwarding; SIGHUP reloads.
import { loadConfig } from './config/load.ts';
import type { Config } from './config/schema.ts';
import { Daemon } from './daemon/daemon.ts';
import { detach } from './datapath/adopt.ts';
import { openDatapath } from './datapath/open.ts';
import { type Env, systemEnv } from './env.ts';
import { EXIT, messageOf } from './errors.ts';
import { SystemHost } from './host/host.ts';
import { createLogger, type Logger } from './log.ts';
import { loadNative, type NativeAddon } from './native/binding.ts';
import { startControlServer } from './observe/control-server.ts';
import { userDatabase } from './observe/groups.ts';
import { ServiceNotifier, watchdogInterval } from './observe/notify.ts';
import { createSource } from './sources/create.ts';
import type { Source } from './sources/source.ts';
import { packageVersion } from './version.ts';

export { NOTHING_YET, type ReadOptions, type ReadPool, type ReadState, readDesired } from './daemon/one-shot.ts';
export { datapathOptions, type HostFacts } from './daemon/settings.ts';

export interface RunOptions {
	readonly configFile: string;
	/** Takes the data plane down at the end, instead of leaving it forwarding. */
	readonly detachOnExit: boolean;
	/** Instead of log.level of the configuration. */
	readonly logLevel?: string | undefined;
}

/** Runs the daemon until SIGTERM or SIGINT. @throws XdpilotError when it can't start; what forwarded before still does */
export async function runDaemon(opts: RunOptions): Promise<void> {
	const logger = createLogger(opts.logLevel === undefined ? {} : { level: opts.logLevel });
	const native = loadNative();
	const signals = new Signals(logger);
	const notifier = new ServiceNotifier((state) => native.sdNotify(state));
	let pinPath = '';
	const daemon = new Daemon({
		env: systemEnv,
		logger,
		host: new SystemHost(systemEnv),
		notifier,
		loadConfig: () => loadConfig(opts.configFile),
		createSource: (name, config) => createSource(name, config, systemEnv, logger),
		openDatapath: (options, { datapath }, on) => {
			pinPath = datapath.pin_path;
			const target = { on: { name: on.name, ifindex: on.index }, mode: datapath.mode, pinPath };
			return openDatapath({ native, env: systemEnv, log: logger }, options, target);
		},
		startControl: ({ control }, handlers) =>
			startControlServer({
				...control,
				group: control.group,
				handlers,
				peerCredentials: (fd) => native.peerCredentials(fd),
				users: userDatabase(),
				logger,
			}),
		setLogLevel: (level) => {
			logger.level = opts.logLevel ?? level;
		},
		watchdogMs: watchdogInterval(process.env, process.pid),
		version: packageVersion(),
		pid: process.pid,
	});
	const stopped = signals.stop.then((signal) => {
		notifier.stopping(`stopping after ${signal}`);
		return daemon.stop();
	});
	try {
		await daemon.start();
		signals.onReload(() => daemon.reload().then(() => undefined));
		await stopped;
	} catch (e) {
		if (!daemon.isStopping) throw e;
		await stopped;
	} finally {
		signals.close();
	}
	const on = daemon.interface;
	if (on !== undefined && pinPath !== '') finish(opts, logger, native, { name: on.name, ifindex: on.index, pinPath });
}

/** The sources of a configuration, by name; nothing is opened yet. @throws XdpilotError E_NOT_BUILT */
export function createSources(config: Config, env: Env, logger: Logger): Map<string, Source> {
	return new Map([...config.sources].map(([name, source]) => [name, createSource(name, source, env, logger)] as const));
}

function finish(opts: RunOptions, logger: Logger, native: NativeAddon, on: { name: string; ifindex: number; pinPath: string }): void {
	if (!opts.detachOnExit) {
		const where = on.pinPath === '/sys/fs/bpf/xdpilot' ? '' : ` --pin-path ${on.pinPath}`;
		logger.info(`stopped; ${on.name} goes on forwarding with what was last written. To take it down: xdpilot detach${where}`);
		return;
	}
	detach(native, on.pinPath, on.ifindex);
	logger.info(`stopped; ${on.name} forwards nothing any more`);
}

/** The process's signals while the daemon runs. */
class Signals {
	/** Resolves with the name of the first signal that asks to stop. */
	readonly stop: Promise<string>;
	readonly #logger: Logger;
	readonly #handlers: (readonly [NodeJS.Signals, () => void])[] = [];
	#isStopping = false;
	#reload: (() => Promise<void>) | undefined;
	/** A SIGHUP that came before anybody could reload. */
	#isReloadDue = false;

	constructor(logger: Logger) {
		this.#logger = logger;
		this.stop = new Promise((resolve) => {
			for (const signal of ['SIGTERM', 'SIGINT'] as const) {
				this.#on(signal, () => {
					if (this.#isStopping) process.exit(EXIT.interrupted);
					this.#isStopping = true;
					this.#logger.info(`${signal}: stopping; once more to leave at once`);
					resolve(signal);
				});
			}
		});
		this.#on('SIGHUP', () => this.#hangUp());
	}

	onReload(reload: () => Promise<void>): void {
		this.#reload = reload;
		if (this.#isReloadDue) this.#hangUp();
	}

	close(): void {
		for (const [signal, handler] of this.#handlers) process.off(signal, handler);
	}

	#hangUp(): void {
		this.#isReloadDue = this.#reload === undefined;
		// The daemon has logged why it was refused.
		this.#reload?.().catch((e: unknown) => this.#logger.debug(messageOf(e)));
	}

	#on(signal: NodeJS.Signals, handler: () => void): void {
		this.#handlers.push([signal, handler]);
		process.on(signal, handler);
	}
}
