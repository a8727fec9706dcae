// SPDX-License-Identifier: Apache-2.0
// Which member of the cluster the next attempt talks to, and with what. One member per attempt, so that list, watch
// and leases come from one history; a failure moves on to the next one.
import { rootCertificates } from 'node:tls';
import type { EtcdEndpoint, TlsConfig } from '../../config/source-schema.ts';
import type { Env } from '../../env.ts';
import { readSecret, readTls } from '../credentials.ts';
import type { BackoffLimits } from '../watch-loop.ts';
import { EtcdClient, type EtcdClientOptions } from './etcd-client.ts';

export interface EtcdTuning {
	readonly backoff: BackoffLimits;
	/** Milliseconds for one call. */
	readonly deadlineMs: number;
	readonly keepalive: EtcdClientOptions['keepalive'];
	/** Keys in one answer. */
	readonly pageSize: number;
	/** Milliseconds between complete lists: what a watch lost, or a server never sent, is found then. */
	readonly resyncMs: number;
	/** Milliseconds between proofs that the member behind a silent watch is alive. */
	readonly probeMs: number;
}

export const ETCD_TUNING: Omit<EtcdTuning, 'backoff'> = {
	deadlineMs: 5000,
	keepalive: { everyMs: 10_000, timeoutMs: 3000 },
	pageSize: 1000,
	resyncMs: 300_000,
	probeMs: 15_000,
};

export interface MembersOptions {
	readonly endpoints: readonly EtcdEndpoint[];
	readonly tls: TlsConfig | undefined;
	readonly username: string | undefined;
	readonly passwordFile: string | undefined;
	readonly env: Env;
	readonly tuning: EtcdTuning;
	/** For the member's logs. */
	readonly purpose: string;
}

export class Members {
	readonly #opts: MembersOptions;
	#next: number;
	#attempts = 0;

	constructor(opts: MembersOptions) {
		this.#opts = opts;
		this.#next = Math.floor(opts.env.random() * opts.endpoints.length);
	}

	/** The member in use. */
	get endpoint(): EtcdEndpoint {
		const endpoint = this.#opts.endpoints[this.#next % this.#opts.endpoints.length];
		if (endpoint === undefined) throw new TypeError('an etcd source has at least one endpoint');
		return endpoint;
	}

	/** The member in use failed. */
	moveOn(): void {
		this.#next++;
	}

	/** A client for one attempt, not yet connected. @throws XdpilotError E_SOURCE when a secret or certificate can't be read */
	async client(): Promise<EtcdClient> {
		const { env, tls, tuning, username, passwordFile, purpose } = this.#opts;
		const { endpoint } = this;
		const { ca, cert, key } = await readTls(tls);
		const login = username === undefined || passwordFile === undefined ? undefined : { username, password: await readSecret(passwordFile) };
		const { deadlineMs, keepalive, pageSize } = tuning;
		return new EtcdClient({
			endpoint,
			credentials: endpoint.secure
				? {
						rootCertificate: ca ?? Buffer.from(rootCertificates.join('\n')),
						...(key === undefined ? {} : { privateKey: key }),
						...(cert === undefined ? {} : { certChain: cert }),
					}
				: undefined,
			serverName: tls?.server_name,
			login,
			userAgent: `xdpilot ${purpose} ${++this.#attempts}`,
			env,
			deadlineMs,
			keepalive,
			pageSize,
		});
	}
}
