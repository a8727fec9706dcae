// SPDX-License-Identifier: Apache-2.0
// Any Datapath with errors injected by seeded probability: half of them before the operation (nothing happened),
// half after it (all of it happened, and the caller is told otherwise). What retries must converge all the same.
import type { Datapath } from '../../src/datapath/datapath.ts';
import { XdpilotError } from '../../src/errors.ts';

export interface FaultOptions {
	/** 0..1: the share of calls that fail. */
	readonly probability: number;
	/** Uniform in [0, 1); Env.random of a seeded environment. */
	readonly random: () => number;
	/** Names of the operations that fail; all writing ones when left out. */
	readonly operations?: readonly (keyof Datapath)[];
}

const WRITES: readonly (keyof Datapath)[] = [
	'putBackends',
	'swapRings',
	'putVips',
	'putServerIds',
	'removeBackends',
	'removePools',
	'setGatewayMac',
];
const ERRNO = ['EAGAIN', 'EBUSY', 'ENOMEM', 'E2BIG'] as const;

export interface Faults {
	/** Operation and moment of every injected error, e.g. `swapRings after`. */
	readonly injected: readonly string[];
	/** No more errors from now on. */
	stop(): void;
}

/** Wraps `datapath`; the second element tells what was injected. */
export function faultyDatapath(datapath: Datapath, options: FaultOptions): [Datapath, Faults] {
	const injected: string[] = [];
	let probability = options.probability;
	const operations: readonly (string | symbol)[] = options.operations ?? WRITES;
	const draw = (name: string, moment: string) => {
		if (options.random() >= probability / 2) return;
		injected.push(`${name} ${moment}`);
		const code = ERRNO[Math.floor(options.random() * ERRNO.length)] ?? 'EAGAIN';
		throw new XdpilotError('E_DATAPATH', `${name}: injected ${code}`, { retryable: true });
	};
	const wrap = (name: string, method: (...args: unknown[]) => unknown) =>
		function faulty(...args: unknown[]): unknown {
			const isAsync = name !== 'putBackends' && name !== 'setGatewayMac';
			if (isAsync) return runAsync(name, () => method.apply(datapath, args));
			draw(name, 'before');
			const result = method.apply(datapath, args);
			draw(name, 'after');
			return result;
		};
	const runAsync = async (name: string, run: () => unknown) => {
		draw(name, 'before');
		const result = await run();
		draw(name, 'after');
		return result;
	};
	const proxy = new Proxy(datapath, {
		get(target, property) {
			const value: unknown = Reflect.get(target, property, target);
			if (typeof value !== 'function') return value;
			const method = value as (...args: unknown[]) => unknown;
			return operations.includes(property) ? wrap(String(property), method) : method.bind(target);
		},
	});
	const stop = () => {
		probability = 0;
	};
	return [proxy, { injected, stop }];
}
