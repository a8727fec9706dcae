// SPDX-License-Identifier: Apache-2.0
// Where desired state comes from. One interface, one conformance suite (test/support/source-conformance.ts).
import type { Snapshot } from '../model/snapshot.ts';

export type SourceKind = 'consul' | 'etcd' | 'file';
/** never = has not answered yet; stale = answers are too old or can't be trusted. */
export type SourceState = 'never' | 'up' | 'down' | 'stale';

export interface SourceStatus {
	readonly name: string;
	readonly kind: SourceKind;
	readonly state: SourceState;
	/** Seconds since the last good answer; null before the first. */
	readonly age_seconds: number | null;
	/** The last failure while not up. */
	readonly error: string | null;
}

/** What one pool wants from its source; `pools.<name>.from` without the source's name. */
export interface ServiceQuery {
	readonly service: string;
	/** Consul: instances must carry all of these. */
	readonly tags: readonly string[];
	/** Consul: another datacenter than the agent's own. */
	readonly datacenter?: string;
}

export interface Watch {
	/** Settles within a second, frees sockets, and no listener is called afterwards. */
	close(): Promise<void>;
}

/**
 * Called only with news: the content changed, or it became known how an instance had gone. Anything it throws is
 * logged by the source and changes nothing there.
 */
export type SnapshotListener = (snapshot: Snapshot) => void;

/**
 * A registry or file. A source that fails keeps silent and says so in status(); it never emits an empty
 * snapshot for an answer that it did not get.
 */
export interface Source {
	readonly name: string;
	readonly kind: SourceKind;
	/** Emits the current snapshot as soon as it is known, then each changed one, until closed. */
	watch(query: ServiceQuery, listener: SnapshotListener): Watch;
	/** Reads once. @throws XdpilotError E_SOURCE when it can't be read before the signal aborts */
	read(query: ServiceQuery, signal: AbortSignal): Promise<Snapshot>;
	status(): SourceStatus;
	/** Closes all watches. */
	close(): Promise<void>;
}
