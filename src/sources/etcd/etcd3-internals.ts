// SPDX-License-Identifier: Apache-2.0
// The two places where etcd3 1.1.2 must be reached behind its types: switching its own recovery off, and freeing
// sockets when a client is closed. Should the internals change, the second one does nothing, and gRPC frees idle
// sockets by itself after ten seconds.
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

interface GrpcService {
	getChannel?: () => { internalChannel?: { subchannelPool?: { unrefUnusedSubchannels?: () => void } } };
}

/** Closes a client whose streams have ended, and its sockets with it instead of seconds later. */
export function releaseSockets(etcd: Etcd3): void {
	const { pool } = etcd as unknown as { pool?: { hosts?: readonly { cachedServices?: Readonly<Record<string, GrpcService>> }[] } };
	const services = (pool?.hosts ?? []).flatMap((host) => Object.values(host.cachedServices ?? {}));
	const pools = new Set(services.map((s) => s.getChannel?.().internalChannel?.subchannelPool));
	etcd.close();
	// gRPC keeps the connections of closed channels for a while, in case someone asks for the same again.
	for (const p of pools) p?.unrefUnusedSubchannels?.();
}
