// SPDX-License-Identifier: Apache-2.0
// From a source's configuration to the source. The one place that knows all kinds.
import type { SourceConfig } from '../config/source-schema.ts';
import type { Env } from '../env.ts';
import { XdpilotError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { FileSource } from './file/file-source.ts';
import type { Source } from './source.ts';

/** Opens nothing: connections are made by watch() and read(). */
export function createSource(name: string, config: SourceConfig, env: Env, logger: Logger): Source {
	switch (config.kind) {
		case 'file':
			return new FileSource({ name, path: config.path, env, logger });
		case 'etcd':
		case 'consul':
			throw new XdpilotError('E_NOT_BUILT', `sources.${name}: the kind ${config.kind} is not built yet`);
	}
}
