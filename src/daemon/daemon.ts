// SPDX-License-Identifier: Apache-2.0
// The daemon's life: starts its parts in order, hands snapshots to the loop, follows the host, reloads, stops. It knows
// interfaces only; src/daemon.ts names the classes. Stopping leaves the data plane forwarding.
import { missingFeatures } from '../config/features.ts';
import type { Config, SourceConfig } from '../config/schema.ts';
import type { Datapath, Flow } from '../datapath/datapath.ts';
import type { DatapathOptions } from '../datapath/options.ts';
import { type Env, sleep, type Timer } from '../env.ts';
import { messageOf, XdpilotError } from '../errors.ts';
import type { OwnAddress } from '../guard/deny.ts';
import type { Host } from '../host/host.ts';
import type { HostInterface } from '../host/interfaces.ts';
import { requirePreflight } from '../host/preflight.ts';
import type { Logger } from '../log.ts';
import type { ControlHandlers, ControlServer, ReloadReport } from '../observe/control-server.ts';
import type { ServiceNotifier } from '../observe/notify.ts';
import type { StatusReport, WhyReport } from '../observe/report.ts';
import { buildStatus, statusLine } from '../observe/status.ts';
import { explainFlow } from '../observe/why.ts';
import { Reconciler } from '../reconcile/reconciler.ts';
import type { Source } from '../sources/source.ts';
import { configChanges, followable } from './config-changes.ts';
import { firstGatewayMac, GatewayFollower } from './gateway-follower.ts';
import { datapathOptions, settingsOf } from './settings.ts';
import { SourceSet } from './source-set.ts';

/** Everything that the daemon doesn't make itself. */
export interface DaemonParts {
	readonly env: Env;
	readonly logger: Logger;
	readonly host: Host;
	readonly notifier: ServiceNotifier;
	/** @throws XdpilotError E_CONFIG */
	readonly loadConfig: () => Config;
	readonly createSource: (name: string, config: SourceConfig) => Source;
	readonly openDatapath: (options: DatapathOptions, config: Config, on: HostInterface) => Promise<Datapath>;
	readonly startControl: (config: Config, handlers: ControlHandlers) => Promise<ControlServer>;
	readonly setLogLevel: (level: string) => void;
	/** Milliseconds between proofs of life; undefined when nobody watches. */
	readonly watchdogMs: number | undefined;
	readonly version: string;
	readonly pid: number;
}

/** How long a start without adopted state may wait for its sources before it calls itself ready all the same. */
const READY_WAIT_MS = 10_000;
const HEARTBEAT_MS = 15_000;
/** A round that takes longer than this is stuck: the service manager should know. */
const STUCK_MS = 60_000;
/** Own addresses are looked at again this often: a backend that becomes one of them must go. */
const OWN_ADDRESSES_MS = 30_000;

export class Daemon {
	readonly #parts: DaemonParts;
	readonly #startedAt: number;
	readonly #stopping = new AbortController();
	/** What is closed at the end, in this order reversed. */
	readonly #closers: (() => Promise<void> | void)[] = [];
	#running: Running | undefined;
	#started: Promise<void> = Promise.resolve();
	#reloads: Promise<unknown> = Promise.resolve();
	#heartbeat: Timer | undefined;
	#isReady = false;

	constructor(parts: DaemonParts) {
		this.#parts = parts;
		this.#startedAt = parts.env.wallNow();
	}

	/**
	 * Starts everything; resolves when the loop runs. When it throws, all that was opened is closed again and what
	 * forwarded before still does. @throws XdpilotError; the reason of stop() when that was called meanwhile
	 */
	start(): Promise<void> {
		const started = this.#start().then(
			() => {
				void this.#announceReady();
				this.#beat(0);
			},
			async (e: unknown) => {
				await this.#closeAll();
				throw e;
			},
		);
		this.#started = started.catch(() => undefined);
		return started;
	}

	/** Stops in order, also in the middle of a start; idempotent. Packets are forwarded as before. */
	async stop(): Promise<void> {
		this.#stopping.abort(new XdpilotError('E_INTERNAL', 'the daemon is stopping'));
		await this.#started;
		this.#heartbeat?.cancel();
		await this.#reloads;
		await this.#closeAll();
	}

	get isStopping(): boolean {
		return this.#stopping.signal.aborted;
	}

	/** Reads the configuration again; one at a time. @throws XdpilotError E_CONFIG, E_NOT_BUILT: the old one stays in force */
	reload(): Promise<ReloadReport> {
		const done = this.#reloads.then(() => this.#reload());
		this.#reloads = done.catch(() => undefined);
		return done;
	}

	status(): StatusReport {
		const { version, pid } = this.#parts;
		return buildStatus({ version, pid, startedAt: this.#startedAt, counters: this.#run.datapath.counters(), ...this.#facts() });
	}

	why(flow: Flow): WhyReport {
		const { datapath, reconciler } = this.#run;
		const verdict = datapath.explain(flow);
		const pool = verdict.pool === null ? undefined : reconciler.poolStatus(verdict.pool);
		return explainFlow({ flow, verdict, pool, waiting: reconciler.status().waitingVips, now: this.#parts.env.wallNow() });
	}

	/** The interface that is served; undefined when it never came to that. */
	get interface(): HostInterface | undefined {
		return this.#running?.on;
	}

	async #closeAll(): Promise<void> {
		for (let close = this.#closers.pop(); close !== undefined; close = this.#closers.pop()) {
			try {
				await close();
			} catch (e) {
				this.#parts.logger.warn({ err: e }, `while stopping: ${messageOf(e)}`);
			}
		}
	}

	async #start(): Promise<void> {
		const { env, logger, host, createSource, loadConfig } = this.#parts;
		const config = loadConfig();
		requireBuilt(config);
		this.#parts.setLogLevel(config.log.level);
		requirePreflight(await host.preflight());
		const on = await host.interface(config.datapath.interfaces[0] ?? '');
		const own = await ownAddresses(host);
		const settings = settingsOf(config, own);
		// Before the data plane is touched: a second daemon is refused here.
		const control = await this.#parts.startControl(config, this.#handlers());
		this.#closers.push(() => control.close());
		const gatewayMac = await firstGatewayMac(env, logger, host, on.name, config.datapath.gateway_mac, this.#stopping.signal);
		const facts = { own, interface: on.addresses.filter((a) => a.scope === 'global').map((a) => a.address), gatewayMac };
		this.#stopping.signal.throwIfAborted();
		const datapath = await this.#parts.openDatapath(datapathOptions(config, facts), config, on);
		this.#closers.push(() => datapath.close());
		logger.info(
			{ interface: on.name, mode: datapath.info.mode, adopted: datapath.info.adopted },
			datapath.info.adopted ? 'adopted the data plane that was running' : 'data plane attached',
		);
		const gateway = new GatewayFollower(logger, gatewayMac, (mac) => datapath.setGatewayMac(mac));
		this.#closers.push(() => gateway.close());
		const sources = new SourceSet({ logger, create: createSource, offer: (pool, snapshot) => reconciler.offer(pool, snapshot) });
		const reconciler = new Reconciler({ env, logger, datapath, sourceState: (name) => sources.state(name) });
		this.#closers.push(() => reconciler.close());
		this.#closers.push(() => sources.close());
		const openSources = sources.prepare(config);
		this.#running = { config, own, on, datapath, reconciler, sources, gateway, ownCheckedAt: env.now() };
		reconciler.configure(settings);
		openSources();
		await gateway.follow(host, on.name, config.datapath.gateway_mac);
	}

	/** The state that was adopted forwards already; without any, the sources get a moment to give one. */
	async #announceReady(): Promise<void> {
		const { env, logger, notifier } = this.#parts;
		const { datapath, reconciler } = this.#run;
		if (!datapath.info.adopted) {
			const patience = sleep(env, READY_WAIT_MS, this.#stopping.signal).catch(() => undefined);
			await Promise.race([reconciler.whenSettled(), patience]);
		}
		if (this.isStopping) return;
		this.#isReady = true;
		const line = statusLine(this.#facts());
		notifier.ready(line);
		logger.info(`ready: ${line}`);
	}

	async #reload(): Promise<ReloadReport> {
		const { logger, host, notifier, env } = this.#parts;
		const run = this.#run;
		notifier.reloading();
		try {
			const next = this.#parts.loadConfig();
			requireBuilt(next);
			const { changes, atNextStart } = configChanges(run.config, next);
			const config = followable(run.config, next);
			const own = await ownAddresses(host);
			const settings = settingsOf(config, own);
			const openSources = run.sources.prepare(config);
			const isGatewayOther = String(config.datapath.gateway_mac) !== String(run.config.datapath.gateway_mac);
			Object.assign(run, { config, own, ownCheckedAt: env.now() });
			run.reconciler.configure(settings);
			openSources();
			if (isGatewayOther) await run.gateway.follow(host, run.on.name, config.datapath.gateway_mac);
			this.#parts.setLogLevel(config.log.level);
			logger.info({ changes, atNextStart }, changes.length === 0 ? 'configuration read again: nothing changed' : 'configuration reloaded');
			for (const key of atNextStart) logger.warn(`${key} changed: it takes effect at the next start, with another program or socket`);
			return { schema: 'xdpilot.reload/v1', changes, at_next_start: atNextStart };
		} catch (e) {
			logger.error({ err: e }, `the new configuration was refused, the old one stays: ${messageOf(e)}`);
			throw e;
		} finally {
			if (this.#isReady) notifier.ready(statusLine(this.#facts()));
		}
	}

	/** Proof of life and a status line for the service manager, and a look at the host's addresses. */
	#beat(ms: number): void {
		const { env, notifier, watchdogMs } = this.#parts;
		this.#heartbeat = env.setTimer(ms, () => {
			const since = this.#run.reconciler.roundSince;
			if (since === null || env.now() - since < STUCK_MS) notifier.watchdog();
			if (this.#isReady) notifier.status(statusLine(this.#facts()));
			if (env.now() - this.#run.ownCheckedAt >= OWN_ADDRESSES_MS) void this.#checkOwnAddresses();
			this.#beat(Math.min(HEARTBEAT_MS, watchdogMs ?? HEARTBEAT_MS));
		});
	}

	async #checkOwnAddresses(): Promise<void> {
		const { host, logger, env } = this.#parts;
		const run = this.#run;
		run.ownCheckedAt = env.now();
		try {
			const own = await ownAddresses(host);
			if (this.isStopping || JSON.stringify(own) === JSON.stringify(run.own)) return;
			logger.info({ own: own.map((o) => o.address) }, "the host's addresses changed");
			run.own = own;
			run.reconciler.configure(settingsOf(run.config, own));
		} catch (e) {
			logger.warn({ err: e }, `the host's addresses could not be read: ${messageOf(e)}`);
		}
	}

	#handlers(): ControlHandlers {
		return { status: () => this.status(), why: (flow) => this.why(flow), reload: () => this.reload() };
	}

	#facts() {
		const { datapath, reconciler, sources } = this.#run;
		return { info: datapath.info, sources: sources.statuses(), reconcile: reconciler.status() };
	}

	get #run(): Running {
		if (this.#running !== undefined) return this.#running;
		throw new XdpilotError('E_DAEMON_UNREACHABLE', 'the daemon is still starting', { retryable: true, hint: 'try again in a moment' });
	}
}

interface Running {
	config: Config;
	own: readonly OwnAddress[];
	readonly on: HostInterface;
	readonly datapath: Datapath;
	readonly reconciler: Reconciler;
	readonly sources: SourceSet;
	readonly gateway: GatewayFollower;
	/** Env.now() */
	ownCheckedAt: number;
}

/** @throws XdpilotError E_NOT_BUILT naming all that is configured and does not exist, E_CONFIG without an interface */
function requireBuilt(config: Config): void {
	const missing = missingFeatures(config);
	if (missing.length > 0) {
		throw new XdpilotError('E_NOT_BUILT', missing.map((m) => `${m.key}: ${m.why}`).join('; '), {
			unaffected: 'nothing was changed',
			hint: `remove ${missing.length === 1 ? 'that key' : 'those keys'}; this version does not have ${missing.length === 1 ? 'it' : 'them'} yet`,
		});
	}
	if (config.datapath.interfaces.length > 0) return;
	throw new XdpilotError('E_CONFIG', 'datapath.interface is missing: run needs the interface that packets arrive on', {
		unaffected: 'nothing was changed',
		hint: 'datapath: { interface: eth0 }',
	});
}

async function ownAddresses(host: Host): Promise<OwnAddress[]> {
	const interfaces = await host.interfaces();
	return interfaces.flatMap((i) => i.addresses.map(({ address, length }) => ({ address, length })));
}
