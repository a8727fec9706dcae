// SPDX-License-Identifier: Apache-2.0
// One HTTP call of the consul package, made fit to be waited for: it ends by a deadline, by the caller's signal, when
// the answer grows too large and when the connection goes in the middle of the answer. The package alone would wait
// for ever in all four cases. It looks at this object as its `ctx` (an emitter of `cancel`) and writes into `body`.
import { EventEmitter } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { Writable } from 'node:stream';
import type { Env } from '../../env.ts';
import { XdpilotError } from '../../errors.ts';

export interface CallLimits {
	readonly env: Env;
	readonly deadlineMs: number;
	readonly maxBytes: number;
	readonly signal: AbortSignal | undefined;
}

export class CallContext extends EventEmitter {
	/** Makes the package return headers beside the body. */
	readonly includeResponse = true;
	readonly body: Writable;
	readonly #limits: CallLimits;
	readonly #chunks: Buffer[] = [];
	#length = 0;
	/** Why the call was ended from this side. */
	#ended: unknown;

	constructor(limits: CallLimits) {
		super();
		this.#limits = limits;
		this.body = new Writable({
			write: (chunk: Buffer, _encoding, done) => {
				this.#chunks.push(chunk);
				this.#length += chunk.length;
				done();
				if (this.#length > limits.maxBytes) this.#end(`the answer has more than ${limits.maxBytes} bytes`);
			},
		});
		this.body.on('pipe', (answer: IncomingMessage) => {
			answer.on('error', () => undefined);
			answer.once('close', () => {
				if (!answer.complete) this.#end('the connection was lost in the middle of an answer');
			});
		});
	}

	/** Runs the call within the limits. @throws the call's error, the reason that it was ended for, or the signal's */
	async run<T>(call: () => Promise<T>): Promise<T> {
		const { env, deadlineMs, signal } = this.#limits;
		signal?.throwIfAborted();
		const onAbort = () => this.#end(signal?.reason);
		const timer = env.setTimer(deadlineMs, () => this.#end(`no answer within ${deadlineMs} ms`));
		signal?.addEventListener('abort', onAbort, { once: true });
		try {
			const result = await call();
			if (this.#ended !== undefined) throw this.#ended;
			return result;
		} catch (e) {
			throw this.#ended ?? e;
		} finally {
			timer.cancel();
			signal?.removeEventListener('abort', onAbort);
		}
	}

	/** What has arrived of the body. */
	text(): string {
		return Buffer.concat(this.#chunks).toString('utf8');
	}

	#end(reason: unknown): void {
		if (this.#ended !== undefined) return;
		this.#ended = typeof reason === 'string' ? new XdpilotError('E_SOURCE', reason, { retryable: true }) : reason;
		this.emit('cancel');
	}
}
