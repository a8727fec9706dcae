// SPDX-License-Identifier: Apache-2.0
// One connection to one member, on top of etcd3's calls but not of its recovery. etcd3 resumes a broken watch at the
// wrong revision and loses changes without a word, refreshes no token of a watch, and waits for ever: so a client here
// lives for one attempt, every call has a deadline, and whoever sees any failure throws the client away.
import { InterceptingCall, type Interceptor, status } from '@grpc/grpc-js';
import { Etcd3, type IKeyValue, type IOptions, Range } from 'etcd3';
import type { EtcdEndpoint } from '../../config/source-schema.ts';
import type { Env } from '../../env.ts';
import { messageOf, XdpilotError } from '../../errors.ts';
import { bounded } from '../watch-loop.ts';
import { keepChannels, releaseSockets, withoutRecovery } from './etcd3-internals.ts';
import { WatchFeed } from './watch-feed.ts';

export interface EtcdClientOptions {
	readonly endpoint: EtcdEndpoint;
	/** Undefined for plain connections. */
	readonly credentials: NonNullable<IOptions['credentials']> | undefined;
	readonly serverName: string | undefined;
	readonly login: { readonly username: string; readonly password: string } | undefined;
	/** Shows in the member's logs. Must differ between attempts: gRPC shares broken connections between equal ones. */
	readonly userAgent: string;
	readonly env: Env;
	/** Milliseconds for one call. */
	readonly deadlineMs: number;
	/** Milliseconds between pings, and for their answers; a server refuses pings more often than every 5 s. */
	readonly keepalive: { readonly everyMs: number; readonly timeoutMs: number };
	readonly pageSize: number;
}

export interface EtcdList {
	readonly entries: readonly IKeyValue[];
	/** At which all of `entries` was read. */
	readonly revision: bigint;
	readonly clusterId: string;
}

export const MAX_MESSAGE_BYTES = 64 * 1024 * 1024;
/** How long a member may take to end a stream before it is cut. */
const CANCEL_MS = 250;

export class EtcdClient {
	readonly #opts: EtcdClientOptions;
	readonly #etcd: Etcd3;
	readonly #userAgent: string;
	/** What is under way: closing the client alone would leave it, and its socket, open. */
	readonly #calls = new Set<InterceptingCall>();
	readonly #streams = new Set<InterceptingCall>();
	#token: string | undefined;
	#feed: WatchFeed | undefined;
	#closed: Promise<void> | undefined;

	/** Connects with the first call. */
	constructor(opts: EtcdClientOptions) {
		this.#opts = opts;
		const { endpoint, env, deadlineMs } = opts;
		// A header: nothing but printable ASCII.
		this.#userAgent = opts.userAgent.replace(/[^ -~]/g, '?');
		this.#etcd = new Etcd3({
			hosts: endpoint.url,
			...(opts.credentials === undefined ? {} : { credentials: opts.credentials }),
			grpcOptions: channelOptions(opts, this.#userAgent),
			faultHandling: withoutRecovery(),
			defaultCallOptions: ({ isStream }) => ({
				interceptors: [this.#interceptor(isStream)],
				// gRPC takes a deadline as a date.
				...(isStream ? {} : { deadline: env.wallNow() + deadlineMs }),
			}),
		});
		keepChannels(this.#etcd);
	}

	/** Gets a token for all further calls, where a login was given. */
	async logIn(): Promise<void> {
		const { login } = this.#opts;
		if (login === undefined) return;
		try {
			const { token } = await this.#etcd.auth.authenticate({ name: login.username, password: login.password });
			this.#token = token;
		} catch (e) {
			// A cluster that asks for no password lets everyone in, those who brought one too.
			if (!messageOf(e).includes('authentication is not enabled')) throw e;
		}
	}

	/** All entries under a prefix, read page by page at one revision. */
	async list(prefix: Buffer): Promise<EtcdList> {
		const { end } = Range.prefix(prefix);
		const entries: IKeyValue[] = [];
		let pinned: { revision: string; clusterId: string } | undefined;
		for (let start = prefix; ; ) {
			const page = this.#etcd.getAll().inRange({ start, end }).limit(this.#opts.pageSize);
			const answer = await (pinned === undefined ? page : page.revision(pinned.revision)).exec();
			pinned ??= { revision: answer.header.revision, clusterId: answer.header.cluster_id };
			entries.push(...answer.kvs);
			const last = answer.kvs.at(-1);
			if (!answer.more || last === undefined) return { entries, revision: BigInt(pinned.revision), clusterId: pinned.clusterId };
			start = Buffer.concat([last.key, Buffer.of(0)]);
		}
	}

	/** Asks for nothing but the member's present revision, through consensus: proof that it is alive and has a leader. */
	async head(prefix: Buffer): Promise<Pick<EtcdList, 'revision' | 'clusterId'>> {
		const answer = await this.#etcd.kv.range({ key: prefix, range_end: Range.prefix(prefix).end, count_only: true });
		return { revision: BigInt(answer.header.revision), clusterId: answer.header.cluster_id };
	}

	/** Whether a lease has ended, by expiry or revocation. */
	async hasLeaseEnded(id: string): Promise<boolean> {
		const { TTL } = await this.#etcd.leaseClient.leaseTimeToLive({ ID: id });
		return Number(TTL) < 0;
	}

	/** Every change under a prefix from a revision on. At most one per client. */
	watch(prefix: Buffer, from: bigint): WatchFeed {
		const builder = this.#etcd.watch().prefix(prefix).startRevision(String(from));
		this.#feed = new WatchFeed(builder.watcher(), this.#opts.env);
		return this.#feed;
	}

	/** Ends streams, calls and sockets. Settles within a second, also when the other end is frozen. */
	close(): Promise<void> {
		this.#closed ??= this.#close();
		return this.#closed;
	}

	async #close(): Promise<void> {
		cancelAll(this.#calls);
		// A live stream is ended by asking for it. Broken from this side instead, etcd3 would open a new one.
		if (this.#feed !== undefined) await bounded(this.#opts.env, this.#feed.close(), CANCEL_MS, 'cancelling').catch(() => undefined);
		cancelAll(this.#streams);
		releaseSockets(this.#etcd, this.#userAgent);
	}

	#interceptor(isStream: boolean): Interceptor {
		const started = isStream ? this.#streams : this.#calls;
		return (options, next) => {
			const call: InterceptingCall = new InterceptingCall(next(options), {
				start: (metadata, _listener, go) => {
					// Without it the watch of a member that lost its leader stays silent and looks healthy.
					if (isStream) metadata.set('hasleader', 'true');
					if (this.#token !== undefined) metadata.set('token', this.#token);
					go(metadata, {
						onReceiveStatus: (result, done) => {
							started.delete(call);
							// etcd3 answers this by asking again at once, for ever, when it did not log in itself.
							const isExpired = result.details.includes('invalid auth token');
							done(isExpired ? { ...result, details: 'the login has expired' } : result);
						},
					});
				},
			});
			started.add(call);
			return call;
		};
	}
}

function cancelAll(calls: Set<InterceptingCall>): void {
	for (const call of calls) call.cancelWithStatus(status.CANCELLED, 'closed by this side');
	calls.clear();
}

function channelOptions({ keepalive, serverName }: EtcdClientOptions, userAgent: string): NonNullable<IOptions['grpcOptions']> {
	return {
		'grpc.keepalive_time_ms': keepalive.everyMs,
		'grpc.keepalive_timeout_ms': keepalive.timeoutMs,
		'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
		'grpc.initial_reconnect_backoff_ms': 100,
		'grpc.max_reconnect_backoff_ms': 2000,
		// A proxy meant for web traffic must not come between a load balancer and its registry.
		'grpc.enable_http_proxy': 0,
		'grpc.primary_user_agent': userAgent,
		...(serverName === undefined ? {} : { 'grpc.ssl_target_name_override': serverName, 'grpc.default_authority': serverName }),
	};
}

/** A failure in words: the codes, timings and dates of gRPC say little to a reader and differ from time to time. */
export function etcdError(endpoint: EtcdEndpoint, e: unknown): XdpilotError {
	const reason = messageOf(e)
		.replace(/\b\d+ [A-Z_]{4,}: /g, '')
		.replace(/Deadline exceeded after .*/s, 'no answer in time')
		.replace(/^No connection established\. Last error: /, '')
		.replace(/ ?\(\d{4}-\d\d-\d\dT[^)]*\)/g, '')
		.replace(/\. Resolution note:.*/s, '')
		.trim();
	return new XdpilotError('E_SOURCE', `etcd at ${endpoint.url}: ${reason}`, { cause: e, retryable: true });
}
