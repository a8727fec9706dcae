// SPDX-License-Identifier: Apache-2.0
// One pass over settings, vips and routes: compares what should be with what is, records each change in the state file,
// then makes it. A pass that finds everything in place changes and writes nothing but the state file.
import { listInterfaces } from '../host/interfaces.ts';
import type { Address, Family } from '../model/address.ts';
import { applyRouteChange, type DefaultRoute, neededRouteChange, sameRoute, undoRouteChange } from './routes.ts';
import type { BackendState, RouteChange, StateFile } from './state.ts';
import { neededSysctls, readSysctlFacts, writeSysctl } from './sysctls.ts';
import { addVip, removeVip } from './vips.ts';

export class SetUp {
	readonly changes: string[] = [];
	readonly notes: string[] = [];
	readonly #file: StateFile;
	#state: BackendState;

	constructor(file: StateFile, state: BackendState) {
		this.#file = file;
		this.#state = state;
	}

	save(): Promise<void> {
		return this.#file.write(this.#state);
	}

	async sysctls(interfaceName: string): Promise<void> {
		for (const c of neededSysctls(interfaceName, await readSysctlFacts(interfaceName))) {
			// What was there before the very first change is what detach() restores.
			const first = this.#state.sysctls.find((s) => s.name === c.name);
			const others = this.#state.sysctls.filter((s) => s.name !== c.name);
			this.#state = { ...this.#state, sysctls: [...others, { ...c, before: first?.before ?? c.before }] };
			await this.save();
			await writeSysctl(c.name, c.after);
			this.changes.push(`${c.name}: ${c.before} -> ${c.after}`);
		}
	}

	/** Puts the missing vips on lo, and takes those away that an earlier call put there and nobody wants any more. */
	async vips(wanted: readonly Address[]): Promise<void> {
		for (const vip of this.#state.vips.filter((v) => !wanted.includes(v))) {
			this.changes.push(await removeVip(vip));
			this.#state = { ...this.#state, vips: this.#state.vips.filter((v) => v !== vip) };
			await this.save();
		}
		const present = (await listInterfaces()).flatMap((i) => i.addresses.map((a) => a.address));
		for (const vip of wanted.filter((v) => !present.includes(v))) {
			if (!this.#state.vips.includes(vip)) this.#state = { ...this.#state, vips: [...this.#state.vips, vip] };
			await this.save();
			await addVip(vip);
			this.changes.push(`lo: ${vip} added`);
		}
	}

	async routes(present: readonly DefaultRoute[], family: Family, mss: number): Promise<void> {
		if (present.length === 0)
			this.notes.push(`no IPv${family} default route leaves here, so no MSS could be lowered for IPv${family} clients`);
		for (const route of present) {
			const mine = this.#state.routes.find((r) => r.family === family && r.advmss === route.advmss && sameRoute(r.route, route.words));
			if (mine?.kind === 'added') continue;
			const asFound = mine === undefined ? route : { ...route, advmss: mine.previous };
			const needed = neededRouteChange(asFound, mss);
			if (needed === undefined || (needed.kind === 'added' && this.#hasCopy(needed, present))) continue;
			if (mine?.advmss === needed.advmss) continue;
			const others = this.#state.routes.filter((r) => r !== mine && !(r.family === family && sameRoute(r.route, needed.route)));
			this.#state = { ...this.#state, routes: [...others, needed] };
			await this.save();
			await applyRouteChange(needed);
			this.changes.push(`${route.words.join(' ')}: advmss ${needed.advmss}`);
		}
		await this.#dropOrphans(present, family);
	}

	#hasCopy(needed: RouteChange, present: readonly DefaultRoute[]): boolean {
		return present.some((r) => sameRoute(r.words, needed.route) && r.advmss === needed.advmss);
	}

	/** A copy whose advertised original has gone would keep a dead gateway in use. */
	async #dropOrphans(present: readonly DefaultRoute[], family: Family): Promise<void> {
		for (const copy of this.#state.routes.filter((r) => r.family === family && r.kind === 'added')) {
			const originals = present.filter((r) => r.isAdvertised);
			if (originals.some((r) => sameRoute(neededRouteChange({ ...r, advmss: null }, copy.advmss)?.route ?? [], copy.route))) continue;
			if (await undoRouteChange(copy)) this.changes.push(`${copy.route.join(' ')}: removed, its router is gone`);
			this.#state = { ...this.#state, routes: this.#state.routes.filter((r) => r !== copy) };
			await this.save();
		}
	}
}
