// SPDX-License-Identifier: Apache-2.0
// The layouts that exist, by their name in the configuration.
import type { EtcdSourceConfig } from '../../../config/source-schema.ts';
import { auto } from './auto.ts';
import type { Layout } from './layout.ts';

export function layoutByName(name: EtcdSourceConfig['layout']): Layout | undefined {
	return name === 'auto' ? auto : undefined;
}
