// SPDX-License-Identifier: Apache-2.0
// The registry of a demo: a real etcd or Consul on the balancer's host, or a file. Backends join, leave and die in it;
// XDPilot hears of them from it and from nowhere else.
import type { BackendProcess } from '../backend-process.ts';
import type { Entry } from './announcement.ts';

export type RegistryKind = 'etcd' | 'consul' | 'file';

export interface Registry {
	readonly kind: RegistryKind;
	/** The member of `sources` in the configuration that reads it. */
	readonly sourceConfig: Readonly<Record<string, unknown>>;
	/** Puts a backend in. Resolves with the wall-clock time at which the registry had it. */
	join(backend: BackendProcess): Promise<number>;
	/** Takes it out in order; it goes on serving what it has. Resolves like join(). */
	leave(backend: BackendProcess): Promise<number>;
	/** Its process was killed. Only a file needs to be told; a registry finds out by itself. */
	died(backend: BackendProcess): Promise<void>;
	/** @throws XdpilotError E_DEMO when its server has ended by itself */
	check(): void;
}

export interface RegistryPlan {
	/** For data and files. */
	readonly folder: string;
	/** What a backend enters, for each of its services. */
	readonly entriesOf: (backend: BackendProcess) => readonly Entry[];
	/** Path of the server's program; undefined for a file. */
	readonly program: string | undefined;
}
