// SPDX-License-Identifier: Apache-2.0
// Which configured features this version does not have yet. The schema knows their keys, so that a configuration
// need not change when they come; until then `run` refuses them by name and `simulate` warns.
import { type VipFlag, vipKey } from '../model/vip.ts';
import type { Config, EtcdSourceConfig } from './schema.ts';

export interface MissingFeature {
	/** Where the configuration asks for it. */
	readonly key: string;
	/** What does not happen, as a sentence without its full stop. */
	readonly why: string;
}

const FLAGS_NOT_BUILT: readonly VipFlag[] = ['source_routing', 'local', 'global_flow_table'];
const LAYOUTS_BUILT: readonly EtcdSourceConfig['layout'][] = ['auto', 'grpc-naming', 'host-port'];

/** In the order of the configuration's sections; empty when everything configured exists. */
export function missingFeatures(config: Config): MissingFeature[] {
	return [...datapathFeatures(config.datapath), ...sourceFeatures(config), ...vipFeatures(config)];
}

function datapathFeatures(datapath: Config['datapath']): MissingFeature[] {
	const asked: readonly (readonly [boolean, string, string])[] = [
		[datapath.interfaces.length > 1, 'interface', 'only one interface is served'],
		[datapath.hash_seed_file !== null, 'hash_seed_file', "flows are hashed with Katran's seeds only"],
		[datapath.source_routes.length > 0, 'source_routes', 'the source address does not choose the backend'],
	];
	return asked.filter(([used]) => used).map(([, key, why]) => ({ key: `datapath.${key}`, why }));
}

function sourceFeatures({ sources }: Config): MissingFeature[] {
	return [...sources].flatMap(([name, source]) =>
		source.kind === 'etcd' && !LAYOUTS_BUILT.includes(source.layout)
			? [{ key: `sources.${name}.layout`, why: `the layout ${source.layout} can't be read` }]
			: [],
	);
}

function vipFeatures({ vips }: Config): MissingFeature[] {
	return vips.flatMap((vip, i) => {
		const flags = vip.flags.filter((flag) => FLAGS_NOT_BUILT.includes(flag));
		return flags.map((flag) => ({ key: `vips[${i}].flags`, why: `the flag ${flag} of ${vipKey(vip)} has no effect` }));
	});
}
