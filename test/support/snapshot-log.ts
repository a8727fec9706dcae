// SPDX-License-Identifier: Apache-2.0
// A listener that keeps what it is told, and lets a test wait for what it should be told.
import type { Instance, Snapshot } from '../../src/model/snapshot.ts';
import { until } from './server-process.ts';

export class SnapshotLog {
	readonly snapshots: Snapshot[] = [];
	/** performance.now() of each. */
	readonly times: number[] = [];
	readonly listener = (snapshot: Snapshot): void => {
		this.snapshots.push(snapshot);
		this.times.push(performance.now());
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

	/** Waits until exactly these addresses are listed. */
	seenAddresses(...addresses: string[]): Promise<Snapshot> {
		const wanted = [...addresses].sort().join();
		return this.seen(`addresses ${wanted}`, () => [...this.addresses].sort().join() === wanted);
	}
}
