// SPDX-License-Identifier: Apache-2.0
// The version, from package.json, which lies above both src/ and dist/.
import { readFileSync } from 'node:fs';

export function packageVersion(): string {
	const parsed: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
	const version: unknown = typeof parsed === 'object' && parsed !== null ? Reflect.get(parsed, 'version') : undefined;
	return typeof version === 'string' ? version : '0.0.0';
}
