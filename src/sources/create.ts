// SPDX-License-Identifier: Apache-2.0
// From a source's configuration to the source. The one place that knows all kinds.
import type { SourceConfig } from '../config/source-schema.ts';
import type { Env } from '../env.ts';
import { XdpilotError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { ConsulSource } from './consul/consul-source.ts';
import { EtcdSource } from './etcd/etcd-source.ts';
import { layoutByName } from './etcd/layouts/by-name.ts';
import { FileSource } from './file/file-source.ts';
import type { Source } from './source.ts';

/** Opens nothing: connections are made by watch() and read(). @throws XdpilotError E_NOT_BUILT for what this version can't read */
export function createSource(name: string, config: SourceConfig, env: Env, logger: Logger): Source {
	switch (config.kind) {
		case 'file':
			return new FileSource({ name, path: config.path, env, logger });
		case 'etcd': {
			const { endpoints, prefix, username, password_file: passwordFile, tls } = config;
			const layout = layoutByName(config.layout);
			if (layout === undefined) throw new XdpilotError('E_NOT_BUILT', `sources.${name}.layout: ${config.layout} is not built yet`);
			return new EtcdSource({ name, endpoints, prefix, layout, username, passwordFile, tls, env, logger });
		}
		case 'consul': {
			const { address, token_file: tokenFile, tls, datacenter, wait, stale: isStale } = config;
			return new ConsulSource({ name, address, tokenFile, tls, datacenter, isStale, env, logger, tuning: { waitMs: wait } });
		}
	}
}
