// SPDX-License-Identifier: Apache-2.0
// The keys of one source, by kind. Secrets are named by file, never written here: files can be rotated,
// and a configuration can then be shown to anyone.
import { z } from 'zod';
import { duration, label, pathText, text } from './values.ts';

/** Where a Consul agent listens. */
export type ConsulAddress =
	| { readonly kind: 'tcp'; readonly secure: boolean; readonly host: string; readonly port: number }
	| { readonly kind: 'unix'; readonly path: string };

/** One etcd endpoint; `url` is its canonical text. */
export interface EtcdEndpoint {
	readonly url: string;
	readonly secure: boolean;
	readonly host: string;
	readonly port: number;
}

const consulAddress = text<ConsulAddress>({
	title: 'URL',
	expected: 'http://HOST:PORT, https://HOST:PORT or unix:///PATH',
	description: 'The Consul agent: http, https or a Unix socket.',
	examples: ['http://127.0.0.1:8500', 'https://consul.example:8501', 'unix:///run/consul/consul.sock'],
	pattern: '^(https?://|unix:)',
	parse: (value) => {
		const [, path] = /^unix:(?:\/\/)?(\/[^\0]{1,106})$/.exec(value) ?? [];
		if (path !== undefined) return { kind: 'unix', path };
		const url = parseOrigin(value);
		return url === undefined
			? undefined
			: { kind: 'tcp', secure: url.secure, host: url.host, port: url.port ?? (url.secure ? 8501 : 8500) };
	},
});

const etcdEndpoint = text<EtcdEndpoint>({
	title: 'URL',
	expected: 'http://HOST:PORT or https://HOST:PORT',
	description: 'One member of the cluster.',
	examples: ['http://127.0.0.1:2379', 'https://etcd-1.example:2379'],
	pattern: '^https?://',
	parse: (value) => {
		const url = parseOrigin(value);
		if (url === undefined) return undefined;
		const port = url.port ?? 2379;
		const host = url.host.includes(':') ? `[${url.host}]` : url.host;
		return { url: `${url.secure ? 'https' : 'http'}://${host}:${port}`, secure: url.secure, host: url.host, port };
	},
});

/** Scheme, host (IPv6 without brackets) and port of an origin; undefined when there is a user, path or query. */
function parseOrigin(value: string): { secure: boolean; host: string; port: number | undefined } | undefined {
	const [, scheme, host = '', port] = /^(https?):\/\/(\[[\da-f:.]+\]|[^\s/?#@:[\]]+)(?::(\d{1,5}))?\/?$/i.exec(value) ?? [];
	if (scheme === undefined || !URL.canParse(value)) return undefined;
	if (port !== undefined && (Number(port) < 1 || Number(port) > 65_535)) return undefined;
	const bare = host.startsWith('[') ? host.slice(1, -1) : host;
	return { secure: scheme.toLowerCase() === 'https', host: bare, port: port === undefined ? undefined : Number(port) };
}

const tls = z
	.strictObject({
		ca: pathText("PEM file of the authorities to trust instead of the system's.").optional(),
		cert: pathText('PEM file of the client certificate.').optional(),
		key: pathText('PEM file of its private key.').optional(),
		server_name: label(253, 'Name that the server certificate must carry, when it is not the host of the address.').optional(),
	})
	.meta({ description: 'TLS, when the address is https. Files are read again when they change.' });

const consul = z.strictObject({
	kind: z.literal('consul'),
	address: consulAddress.prefault('http://127.0.0.1:8500'),
	token_file: pathText('File that holds the ACL token.').optional(),
	tls: tls.optional(),
	datacenter: label(253, "Datacenter to ask for. Default: the agent's own.").optional(),
	stale: z.boolean().default(false).meta({
		description: 'Any server may answer, not only the leader, as long as it has heard from the leader within 10 s.',
	}),
	wait: duration('1s', '10m', 'How long one blocking query may wait for a change.').prefault('30s'),
});

const etcd = z.strictObject({
	kind: z.literal('etcd'),
	endpoints: z.array(etcdEndpoint).min(1).prefault(['http://127.0.0.1:2379']).meta({ description: 'The members of the cluster.' }),
	prefix: label(512, 'Key prefix under which the services lie.').prefault('/services/'),
	layout: z
		.enum(['auto', 'grpc-naming', 'host-port', 'skydns', 'traefik', 'template'])
		.default('auto')
		.meta({ description: 'How keys and values are written; `auto` tells JSON endpoints and host:port apart.' }),
	username: label(253, 'User for etcd authentication.').optional(),
	password_file: pathText("File that holds that user's password.").optional(),
	tls: tls.optional(),
});

const file = z.strictObject({
	kind: z.literal('file'),
	path: pathText('YAML or JSON file with `services`; watched.'),
});

export const sourceSchema = z.discriminatedUnion('kind', [consul, etcd, file]);

export type SourceConfig = z.output<typeof sourceSchema>;
export type ConsulSourceConfig = z.output<typeof consul>;
export type EtcdSourceConfig = z.output<typeof etcd>;
export type FileSourceConfig = z.output<typeof file>;
export type TlsConfig = z.output<typeof tls>;
