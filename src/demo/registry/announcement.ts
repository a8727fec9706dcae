// SPDX-License-Identifier: Apache-2.0
// How a backend's own process keeps itself in a registry, the way a service would: it writes its entry under a lease or
// a TTL check, renews it while it lives, and withdraws it when it is told to leave. Killed, it does none of this, and
// the registry finds out by itself.
import { type Env, sleep, type Timer } from '../../env.ts';
import { XdpilotError } from '../../errors.ts';

export interface Entry {
	/** Name of the service. */
	readonly service: string;
	readonly instance: string;
	readonly address: string;
	readonly port: number;
}

export interface Announcement {
	readonly kind: 'etcd' | 'consul';
	/** Origin of the registry's HTTP API. */
	readonly url: string;
	/** Key prefix in etcd. */
	readonly prefix: string;
	/** Seconds after which an entry that is not renewed is dead. */
	readonly ttlSeconds: number;
	readonly entries: readonly Entry[];
}

const CALL_MS = 2000;
const READY_MS = 20_000;
const RETRY_MS = 100;
const RENEWALS_PER_TTL = 4;

/** What is specific to one registry. */
interface Registrar {
	register(): Promise<void>;
	renew(): Promise<void>;
	withdraw(): Promise<void>;
}

export class Announcer {
	readonly #env: Env;
	readonly #registrar: Registrar;
	readonly #renewMs: number;
	#timer: Timer | undefined;
	#active = false;

	constructor(env: Env, announcement: Announcement) {
		this.#env = env;
		this.#registrar = announcement.kind === 'etcd' ? new EtcdRegistrar(announcement) : new ConsulRegistrar(announcement);
		this.#renewMs = (announcement.ttlSeconds * 1000) / RENEWALS_PER_TTL;
	}

	/** Waits for the registry to come up. @throws XdpilotError E_DEMO when it does not in 20 s */
	async announce(): Promise<void> {
		const deadline = this.#env.now() + READY_MS;
		for (;;) {
			try {
				await this.#registrar.register();
				break;
			} catch (cause) {
				if (this.#env.now() > deadline) throw new XdpilotError('E_DEMO', 'the registry did not take an entry', { cause });
				await sleep(this.#env, RETRY_MS);
			}
		}
		this.#active = true;
		this.#renewLater();
	}

	async withdraw(): Promise<void> {
		this.#active = false;
		this.#timer?.cancel();
		await this.#registrar.withdraw();
	}

	#renewLater(): void {
		this.#timer = this.#env.setTimer(this.#renewMs, () => {
			// A renewal that fails is tried again at the next turn; the TTL has room for three.
			void this.#registrar
				.renew()
				.catch(() => {})
				.finally(() => {
					if (this.#active) this.#renewLater();
				});
		});
	}
}

/** etcd's v3 API through its JSON gateway; bytes are base64. */
class EtcdRegistrar implements Registrar {
	readonly #announcement: Announcement;
	#lease = '';

	constructor(announcement: Announcement) {
		this.#announcement = announcement;
	}

	async register(): Promise<void> {
		const { entries, ttlSeconds } = this.#announcement;
		const granted = (await this.#call('lease/grant', { TTL: ttlSeconds })) as { ID?: string };
		this.#lease = granted.ID ?? '';
		const success = entries.map((e) => ({
			requestPut: { key: base64(this.#key(e)), value: base64(hostPort(e)), lease: this.#lease },
		}));
		await this.#call('kv/txn', { success });
	}

	async renew(): Promise<void> {
		await this.#call('lease/keepalive', { ID: this.#lease });
	}

	async withdraw(): Promise<void> {
		const success = this.#announcement.entries.map((e) => ({ requestDeleteRange: { key: base64(this.#key(e)) } }));
		await this.#call('kv/txn', { success });
	}

	#key(entry: Entry): string {
		return `${this.#announcement.prefix}${entry.service}/${entry.instance}`;
	}

	#call(method: string, body: object): Promise<unknown> {
		return call('POST', `${this.#announcement.url}/v3/${method}`, body);
	}
}

class ConsulRegistrar implements Registrar {
	readonly #announcement: Announcement;

	constructor(announcement: Announcement) {
		this.#announcement = announcement;
	}

	async register(): Promise<void> {
		const check = { TTL: `${this.#announcement.ttlSeconds}s`, Status: 'passing' };
		await this.#each((e) =>
			this.#call('service/register', { ID: serviceId(e), Name: e.service, Address: e.address, Port: e.port, Check: check }),
		);
	}

	async renew(): Promise<void> {
		await this.#each((e) => this.#call(`check/pass/service:${serviceId(e)}`));
	}

	async withdraw(): Promise<void> {
		await this.#each((e) => this.#call(`service/deregister/${serviceId(e)}`));
	}

	async #each(fn: (e: Entry) => Promise<unknown>): Promise<void> {
		await Promise.all(this.#announcement.entries.map(fn));
	}

	#call(method: string, body?: object): Promise<unknown> {
		return call('PUT', `${this.#announcement.url}/v1/agent/${method}`, body);
	}
}

async function call(method: string, url: string, body?: object): Promise<unknown> {
	const response = await fetch(url, {
		method,
		signal: AbortSignal.timeout(CALL_MS),
		...(body === undefined ? {} : { body: JSON.stringify(body) }),
	});
	const text = await response.text();
	if (!response.ok) throw new XdpilotError('E_DEMO', `${url} answered ${response.status}: ${text.slice(0, 200)}`);
	return text === '' ? undefined : (JSON.parse(text) as unknown);
}

function base64(text: string): string {
	return Buffer.from(text).toString('base64');
}

function hostPort(e: Entry): string {
	return e.address.includes(':') ? `[${e.address}]:${e.port}` : `${e.address}:${e.port}`;
}

function serviceId(e: Entry): string {
	return `${e.service}-${e.instance}`;
}
