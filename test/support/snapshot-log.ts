// SPDX-License-Identifier: Apache-2.0
// A listener that keeps what it is told, and lets a test wait for what it should be told.
import type { Instance, Snapshot } from '../../src/model/snapshot.ts';
import { until } from './server-process.ts';

export class SnapshotLog {
	readonly snapshots: Snapshot[] = [];
	#awaited: ((snapshot: Snapshot, at: number) => void) | undefined;

	readonly listener = (snapshot: Snapshot): void => {
		const at = performance.now();
		this.snapshots.push(snapshot);
		this.#awaited?.(snapshot, at);
	};

	get last(): Snapshot | undefined {
		return this.snapshots.at(-1);
	}

	get count(): number {
		return this.snapshots.length;
	}

	/** The addresses of the last snapshot, in its order. */
	get addresses(): string[] {
		return (this.last?.instances ?? []).map((i) => i.address);
	}

	instance(address: string): Instance | undefined {
		return this.last?.instances.find((i) => i.address === address);
	}

	/** How an instance went, as told last. */
	absence(id: string): string | undefined {
		return this.snapshots.flatMap((s) => s.absences).findLast((a) => a.instance === id)?.kind;
	}

	/** Waits until the last snapshot satisfies the condition. */
	async seen(what: string, condition: (snapshot: Snapshot) => boolean, ms?: number): Promise<Snapshot> {
		try {
			await until(what, () => this.last !== undefined && condition(this.last), ms);
		} catch (e) {
			throw new Error(`${(e as Error).message}; the last snapshot was ${JSON.stringify(this.last)}`);
		}
		return this.last as Snapshot;
	}

	/** performance.now() at the next snapshot that satisfies the condition; one wait at a time, without polling. */
	next(condition: (snapshot: Snapshot) => boolean, ms = 20_000): Promise<number> {
		return new Promise((resolve, reject) => {
			const timer = setTimeout(() => reject(new Error(`waited ${ms} ms in vain for a snapshot`)), ms);
			this.#awaited = (snapshot, at) => {
				if (!condition(snapshot)) return;
				clearTimeout(timer);
				this.#awaited = undefined;
				resolve(at);
			};
		});
	}

	/** Waits until exactly these addresses are listed. */
	seenAddresses(...addresses: string[]): Promise<Snapshot> {
		const wanted = [...addresses].sort().join();
		return this.seen(`addresses ${wanted}`, () => [...this.addresses].sort().join() === wanted);
	}
}
