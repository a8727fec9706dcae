// SPDX-License-Identifier: Apache-2.0
// Makes this host a backend and undoes it. setUp() is level-triggered: it compares what should be with what is, and may
// be called again at any time. Every change is on disk before it is made; detach() undoes those and no others.
import { messageOf, XdpilotError } from '../errors.ts';
import { findInterface, type HostInterface, listInterfaces } from '../host/interfaces.ts';
import { type Address, type Family, familyOf } from '../model/address.ts';
import type { Decapsulator, XdpMode } from './decap.ts';
import { defaultRoutes, fittingMss, undoRouteChange } from './routes.ts';
import { SetUp } from './set-up.ts';
import type { BackendState, RouteChange, StateFile } from './state.ts';
import { readSysctl, writeSysctl } from './sysctls.ts';
import { removeVip } from './vips.ts';

export interface AgentOptions {
	readonly interface: string;
	readonly vips: readonly Address[];
	/** Largest IP packet that the path from the balancer carries, bytes; null = the interface's MTU. */
	readonly mtu: number | null;
	/** Bytes that encapsulation adds. */
	readonly overhead: number;
	/** UDP port of GUE; null = only IPIP is unwrapped. */
	readonly guePort: number | null;
	readonly mode: XdpMode | 'auto';
	readonly pinPath: string;
}

export interface AgentReport {
	readonly interface: string;
	readonly mode: XdpMode;
	readonly vips: readonly Address[];
	/** The MSS offered to clients, by family of the vips. */
	readonly mss: { readonly ipv4: number | null; readonly ipv6: number | null };
	/** What this call changed, a line each; empty when all was as it should be. */
	readonly changes: readonly string[];
	/** What needs attention although set-up went well. */
	readonly notes: readonly string[];
}

export class BackendAgent {
	readonly #opts: AgentOptions;
	readonly #file: StateFile;
	readonly #decapsulator: Decapsulator;

	constructor(opts: AgentOptions, file: StateFile, decapsulator: Decapsulator) {
		this.#opts = opts;
		this.#file = file;
		this.#decapsulator = decapsulator;
	}

	/** @throws XdpilotError E_HOST, E_ATTACH or E_NATIVE; what was done until then is recorded and can be undone */
	async setUp(): Promise<AgentReport> {
		const opts = this.#opts;
		const nic = await findInterface(opts.interface);
		refuseForeignVips(opts.vips, await listInterfaces());
		const recorded = await this.#file.read();
		if (recorded !== undefined && recorded.interface !== opts.interface) {
			throw new XdpilotError('E_HOST', `${this.#file.path} belongs to ${recorded.interface}`, {
				hint: 'give each interface its own --state',
			});
		}
		const work = new SetUp(this.#file, recorded ?? emptyState(opts));
		const mss = { ipv4: await this.#offerMss(work, nic, 4), ipv6: await this.#offerMss(work, nic, 6) };
		if (opts.vips.some((v) => familyOf(v) === 4)) await work.sysctls(opts.interface);
		await work.vips(opts.vips);
		await work.save();
		// Last: from here on packets for the vips come out, and everything they need is there.
		const attached = await this.#decapsulator.attach({
			ifindex: nic.index,
			mtu: nic.mtu,
			mode: opts.mode,
			vips: opts.vips,
			guePort: opts.guePort,
		});
		if (attached.changed !== null) work.changes.push(`${nic.name}: ${attached.changed}`);
		return { interface: nic.name, mode: attached.mode, vips: opts.vips, mss, changes: work.changes, notes: work.notes };
	}

	/** Undoes what the state file lists. Resolves with a line for each thing done or left. */
	async detach(): Promise<string[]> {
		const state = await this.#file.read();
		if (state === undefined) return [];
		const lines: string[] = [];
		if (await this.#decapsulator.detach()) lines.push(`${state.interface}: no longer decapsulating`);
		for (const vip of state.vips) lines.push(await removeVip(vip));
		for (const r of [...state.routes].reverse()) lines.push(await undoRoute(r));
		for (const s of [...state.sysctls].reverse()) {
			const now = await readSysctl(s.name).catch(() => '');
			if (now === s.after) await writeSysctl(s.name, s.before);
			lines.push(now === s.after ? `${s.name}: ${s.after} -> ${s.before}` : `${s.name}: left at ${now || '?'}, someone else changed it`);
		}
		await this.#file.remove();
		return lines;
	}

	async #offerMss(work: SetUp, nic: HostInterface, family: Family): Promise<number | null> {
		if (!this.#opts.vips.some((v) => familyOf(v) === family)) return null;
		const mss = fittingMss(family, this.#opts.mtu ?? nic.mtu, this.#opts.overhead);
		await work.routes(await defaultRoutes(nic.name, family), family, mss);
		return mss;
	}
}

function emptyState(opts: AgentOptions): BackendState {
	return { version: 1, interface: opts.interface, pinPath: opts.pinPath, vips: [], sysctls: [], routes: [] };
}

/** A vip on any interface but lo would be claimed by ARP or neighbour discovery, and take the traffic off the balancer. */
function refuseForeignVips(vips: readonly Address[], interfaces: readonly HostInterface[]): void {
	for (const nic of interfaces.filter((i) => !i.loopback)) {
		const vip = nic.addresses.find((a) => vips.includes(a.address));
		if (vip === undefined) continue;
		throw new XdpilotError('E_HOST', `${vip.address} is an address of ${nic.name}, where it answers ARP and neighbour discovery`, {
			unaffected: 'nothing was changed',
			hint: `ip address delete ${vip.address}/${vip.length} dev ${nic.name}`,
		});
	}
}

async function undoRoute(r: RouteChange): Promise<string> {
	const route = r.route.join(' ');
	try {
		if (!(await undoRouteChange(r))) return `${route}: left, it has gone or someone else changed it`;
		return r.kind === 'added' ? `${route}: removed` : `${route}: advmss ${r.previous ?? 'removed'}`;
	} catch (e) {
		return `${route}: not restored (${messageOf(e)})`;
	}
}
