// SPDX-License-Identifier: Apache-2.0
// Entry of the client's process. Its parent sends { plan }, then { stop: true }; it reports { exchanges: [...] } in
// batches and { stopped: true } at the end. It ends with its parent.
import { systemEnv } from '../../env.ts';
import type { Exchange, LoadPlan } from './exchange.ts';
import { Load } from './load.ts';

const REPORT_MS = 50;

function main(): void {
	let batch: Exchange[] = [];
	let load: Load | undefined;
	const flush = () => {
		if (batch.length > 0) process.send?.({ exchanges: batch });
		batch = [];
	};
	const flushOften = () => {
		flush();
		systemEnv.setTimer(REPORT_MS, flushOften, { unref: true });
	};
	process.on('disconnect', () => process.exit(0));
	process.on('message', (message: { plan?: LoadPlan; stop?: true }) => {
		if (message.plan !== undefined) {
			load = new Load(systemEnv, message.plan, (e) => batch.push(e));
			load.start();
			flushOften();
		}
		if (message.stop) {
			void (load?.stop() ?? Promise.resolve()).then(() => {
				flush();
				process.send?.({ stopped: true }, () => process.exit(0));
			});
		}
	});
	process.send?.({ ready: true });
}

main();
