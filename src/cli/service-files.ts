// SPDX-License-Identifier: Apache-2.0
// What `check` can say of the files behind file sources. Advice, not mistakes of the configuration: a file may be
// written later, and a bad entry is refused alone.
import type { Config } from '../config/schema.ts';
import { messageOf } from '../errors.ts';
import { readContent } from '../sources/file/follow-file.ts';
import { type Declaration, parseServices } from '../sources/file/services.ts';

export interface Advice {
	readonly key: string;
	/** A sentence without its full stop. */
	readonly why: string;
}

/** In the order of the configuration. Reads the files, nothing else. */
export async function serviceFileAdvice(config: Config): Promise<Advice[]> {
	const advice: Advice[] = [];
	for (const [name, source] of config.sources) {
		if (source.kind !== 'file') continue;
		try {
			const services = parseServices((await readContent(source.path)).text);
			const pools = [...config.pools].filter(([, pool]) => pool.from.source === name);
			for (const [pool, { from }] of pools) advice.push(...ofService(pool, from.service, services.get(from.service), source.path));
		} catch (e) {
			advice.push({ key: `sources.${name}.path`, why: messageOf(e) });
		}
	}
	return advice;
}

function ofService(pool: string, service: string, declared: Declaration | undefined, file: string): Advice[] {
	const key = `pools.${pool}.from.service`;
	if (declared === undefined) return [{ key, why: `${file} has no service ${service}` }];
	if ('error' in declared) return [{ key, why: `${file}: ${declared.error}` }];
	return declared.rejected.map(({ instance, reason }) => ({ key, why: `${file}: ${instance} is refused: ${reason}` }));
}
