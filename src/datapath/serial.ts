// SPDX-License-Identifier: Apache-2.0
// Runs asynchronous work one piece after the other, in the order in which it was asked for; a failure concerns only
// the one that asked.

export class Serial {
	#tail: Promise<unknown> = Promise.resolve();

	run<T>(work: () => Promise<T>): Promise<T> {
		const done = this.#tail.then(work);
		this.#tail = done.catch(() => undefined);
		return done;
	}

	/** Resolves when nothing asked for so far is still running. */
	async idle(): Promise<void> {
		await this.#tail;
	}
}
