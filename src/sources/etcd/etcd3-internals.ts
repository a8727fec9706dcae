// SPDX-License-Identifier: Apache-2.0
// Where etcd3 1.1.2 and grpc-js 1.14 must be reached behind their types, to switch their own recovery off and to free
// sockets. Left alone, they keep the socket of a closed client for ten seconds, and that of a member that accepts
// connections without answering (frozen, half dead) for ever: one more with every attempt. Should the internals
// change, the fields are not there and only that happens again; a test counts sockets.
import { getSubchannelPool } from '@grpc/grpc-js/build/src/subchannel-pool.js';
import type { Etcd3, IOptions } from 'etcd3';

type FaultHandling = NonNullable<IOptions['faultHandling']>;
type Policy = NonNullable<FaultHandling['global']>;

/** Calls go through once, no circuit opens, and the library's reconnect comes too late to matter. */
export function withoutRecovery(): FaultHandling {
	const nothing = () => ({ dispose: () => undefined });
	const once: Omit<Policy, '_altReturn'> = {
		onSuccess: nothing,
		onFailure: nothing,
		execute: async (fn, signal) => fn({ signal: signal ?? new AbortController().signal }),
	};
	const policy = once as Policy;
	const watchBackoff: NonNullable<FaultHandling['watchBackoff']> = { duration: 100, next: () => watchBackoff };
	return { host: () => policy, global: policy, watchBackoff };
}

interface Etcd3Host {
	cachedServices?: Readonly<Record<string, { close?: () => void } | undefined>>;
	resetAllServices?: () => void;
}

function hostsOf(etcd: Etcd3): readonly Etcd3Host[] {
	return (etcd as unknown as { pool?: { hosts?: readonly Etcd3Host[] } }).pool?.hosts ?? [];
}

/** After a failure etcd3 forgets its channels, and closes those that are connecting a second later: not now. */
export function keepChannels(etcd: Etcd3): void {
	for (const host of hostsOf(etcd)) host.resetAllServices = () => undefined;
}

interface Session {
	destroy?: () => void;
}
interface SubchannelPool {
	pool?: Readonly<
		Record<
			string,
			readonly {
				channelArguments?: Readonly<Record<string, unknown>>;
				subchannel?: { connector?: { session?: Session | null } | null; transport?: { session?: Session } | null };
			}[]
		>
	>;
}

/** Closes a client whose calls have ended, and its sockets at once. `userAgent` must be this client's alone. */
export function releaseSockets(etcd: Etcd3, userAgent: string): void {
	const { pool = {} } = getSubchannelPool(true) as unknown as SubchannelPool;
	const own = Object.values(pool)
		.flat()
		.filter((entry) => entry.channelArguments?.['grpc.primary_user_agent'] === userAgent);
	// Taken before the channels are closed, which drops them.
	const sessions = own.flatMap(({ subchannel }) => [subchannel?.connector?.session, subchannel?.transport?.session]);
	for (const host of hostsOf(etcd)) for (const service of Object.values(host.cachedServices ?? {})) service?.close?.();
	etcd.close();
	for (const session of sessions) session?.destroy?.();
}
