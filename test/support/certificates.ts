// SPDX-License-Identifier: Apache-2.0
// A throw-away certificate authority, so that TLS is tested without openssl on the machine: just enough DER
// (RFC 5280) for an authority, a server on loopback and a client.
import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface TestCertificates {
	readonly ca: string;
	readonly server: { readonly cert: string; readonly key: string };
	readonly client: { readonly cert: string; readonly key: string };
}

/** Writes PEM files into a folder and returns their paths; the server is 127.0.0.1 and localhost. */
export function writeCertificates(folder: string): TestCertificates {
	const ca = pair();
	const caFile = write(folder, 'ca.pem', 'CERTIFICATE', certificate('test authority', ca, ca, [basicConstraints(true)]));
	const leaf = (name: string) => {
		const keys = pair();
		const cert = write(folder, `${name}.pem`, 'CERTIFICATE', certificate(name, keys, ca, [basicConstraints(false), alternativeNames()]));
		const key = join(folder, `${name}.key`);
		writeFileSync(key, keys.privateKey.export({ type: 'pkcs8', format: 'pem' }));
		return { cert, key };
	};
	return { ca: caFile, server: leaf('server'), client: leaf('client') };
}

interface Pair {
	readonly publicKey: KeyObject;
	readonly privateKey: KeyObject;
}

function pair(): Pair {
	return generateKeyPairSync('ec', { namedCurve: 'P-256' });
}

const OID = {
	commonName: [0x55, 0x04, 0x03],
	basicConstraints: [0x55, 0x1d, 0x13],
	subjectAltName: [0x55, 0x1d, 0x11],
	ecdsaWithSha256: [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02],
};

function der(tag: number, ...parts: (Buffer | readonly number[])[]): Buffer {
	const body = Buffer.concat(parts.map((p) => Buffer.from(p)));
	const { length } = body;
	const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
	return Buffer.concat([Buffer.from([tag, ...size]), body]);
}

const sequence = (...parts: Buffer[]) => der(0x30, ...parts);
const oid = (bytes: readonly number[]) => der(0x06, bytes);
const text = (value: string) => der(0x0c, Buffer.from(value));
const time = (at: Date) => der(0x18, Buffer.from(`${at.toISOString().replace(/[-:T]|\.\d+/g, '')}`));
const octets = (value: Buffer) => der(0x04, value);

function named(commonName: string): Buffer {
	return sequence(der(0x31, sequence(oid(OID.commonName), text(commonName))));
}

function basicConstraints(isAuthority: boolean): Buffer {
	const value = isAuthority ? sequence(der(0x01, [0xff])) : sequence();
	return sequence(oid(OID.basicConstraints), der(0x01, [0xff]), octets(value));
}

function alternativeNames(): Buffer {
	return sequence(oid(OID.subjectAltName), octets(sequence(der(0x87, [127, 0, 0, 1]), der(0x82, Buffer.from('localhost')))));
}

function certificate(name: string, subject: Pair, issuer: Pair, extensions: Buffer[]): Buffer {
	const algorithm = sequence(oid(OID.ecdsaWithSha256));
	const day = 86_400_000;
	const body = sequence(
		der(0xa0, der(0x02, [2])),
		der(0x02, [0x01], randomBytes(8)),
		algorithm,
		named(subject === issuer ? name : 'test authority'),
		sequence(time(new Date(Date.now() - day)), time(new Date(Date.now() + day))),
		named(name),
		subject.publicKey.export({ type: 'spki', format: 'der' }),
		der(0xa3, sequence(...extensions)),
	);
	return sequence(body, algorithm, der(0x03, [0], sign('sha256', body, issuer.privateKey)));
}

function write(folder: string, file: string, label: string, bytes: Buffer): string {
	const lines = bytes.toString('base64').replace(/.{64}/g, '$&\n');
	writeFileSync(join(folder, file), `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`);
	return join(folder, file);
}
