// SPDX-License-Identifier: Apache-2.0
// Entry of a backend's process: serves, and keeps itself in the registry. Its parent sends { name, listen }, then
// { announce } and { withdraw }; it reports { listening }, { announced }, { withdrawn } with the wall-clock time at
// which the registry confirmed, { seen: [...] } in batches, and { failed }. It ends with
// its parent, unless { stay } was sent.
import { systemEnv } from '../../env.ts';
import { messageOf } from '../../errors.ts';
import { type Announcement, Announcer } from '../registry/announcement.ts';
import type { Target } from './exchange.ts';
import { DemoServer } from './server.ts';

export interface ServerOrder {
	readonly listen?: { readonly name: string; readonly targets: readonly Target[] };
	readonly announce?: Announcement;
	readonly withdraw?: true;
	readonly stay?: true;
}

const REPORT_MS = 100;

class ServerProcess {
	staysAlone = false;
	#announcer: Announcer | undefined;

	async obey(order: ServerOrder): Promise<void> {
		if (order.stay) this.staysAlone = true;
		if (order.listen !== undefined) {
			const server = new DemoServer(systemEnv, order.listen.name);
			await server.listen(order.listen.targets);
			reportOften(server);
			process.send?.({ listening: true });
		}
		if (order.announce !== undefined) {
			this.#announcer = new Announcer(systemEnv, order.announce);
			await this.#announcer.announce();
			process.send?.({ announced: systemEnv.wallNow() });
		}
		if (order.withdraw) {
			await this.#announcer?.withdraw();
			process.send?.({ withdrawn: systemEnv.wallNow() });
		}
	}
}

function reportOften(server: DemoServer): void {
	const seen = server.takeSeen();
	if (seen.length > 0) process.send?.({ seen });
	systemEnv.setTimer(REPORT_MS, () => reportOften(server));
}

function main(): void {
	const self = new ServerProcess();
	process.on('disconnect', () => {
		if (!self.staysAlone) process.exit(0);
	});
	process.on('message', (order: ServerOrder) => {
		self.obey(order).catch((e: unknown) => process.send?.({ failed: messageOf(e) }));
	});
	process.send?.({ ready: true });
}

main();
