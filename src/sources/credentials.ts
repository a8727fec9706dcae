// SPDX-License-Identifier: Apache-2.0
// Secrets and certificates of a source. Read again for every attempt, so that a rotated file is used without a
// restart; never logged, never kept longer than the connection.
import { readFile, stat } from 'node:fs/promises';
import type { TlsConfig } from '../config/source-schema.ts';
import { messageOf, XdpilotError } from '../errors.ts';

/** No token, password or certificate chain is longer. */
const MAX_BYTES = 1024 * 1024;

export interface TlsFiles {
	readonly ca?: Buffer;
	readonly cert?: Buffer;
	readonly key?: Buffer;
}

/** The content of a file that holds one secret, without the line break at its end. @throws XdpilotError E_SOURCE */
export async function readSecret(file: string): Promise<string> {
	const secret = (await readBytes(file)).toString('utf8').replace(/[\r\n]+$/, '');
	if (secret === '' || /[\r\n\0]/.test(secret)) throw new XdpilotError('E_SOURCE', `${file} must hold one line`, { retryable: true });
	return secret;
}

/** The PEM files of a TLS configuration. @throws XdpilotError E_SOURCE */
export async function readTls(tls: TlsConfig | undefined): Promise<TlsFiles> {
	const read = async (name: 'ca' | 'cert' | 'key') => {
		const file = tls?.[name];
		return file === undefined ? {} : { [name]: await readBytes(file) };
	};
	return Object.assign({}, ...(await Promise.all([read('ca'), read('cert'), read('key')])));
}

async function readBytes(file: string): Promise<Buffer> {
	try {
		const { size } = await stat(file);
		if (size > MAX_BYTES) throw new Error(`it has ${size} bytes`);
		return await readFile(file);
	} catch (e) {
		throw new XdpilotError('E_SOURCE', `can't read ${file}: ${messageOf(e)}`, { cause: e, retryable: true });
	}
}
