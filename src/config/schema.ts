// SPDX-License-Identifier: Apache-2.0
// Every key of the configuration: its type, default and meaning. The JSON Schema (config/xdpilot.schema.json)
// and docs/configuration.md's table are generated from here. Shape only: what relates one key to another is in
// cross-checks.ts. Strict everywhere: an unknown key is an error.
import { z } from 'zod';
import { VIP_FLAGS, type Vip } from '../model/vip.ts';
import { sourceSchema } from './source-schema.ts';
import {
	absolutePath,
	addressText,
	autoOrAddress,
	duration,
	gatewayMac,
	integer,
	interfaceName,
	isPrime,
	label,
	nameText,
	pathText,
	percentage,
	prefixText,
} from './values.ts';

const encap = z.enum(['ipip', 'gue']);

const interfaces = z
	.union([interfaceName, z.array(interfaceName).min(1)])
	.meta({ description: 'The interface that packets for the vips arrive on, or a list of them. `run` needs it, `simulate` does not.' })
	.transform((v): readonly string[] => (typeof v === 'string' ? [v] : v));

const ringSize = integer(
	3,
	8_388_593,
	'Slots of every ring: a prime. All members of an ECMP group must agree. Fixed when the program is loaded.',
);

const decap = z
	.strictObject({
		ipip: z.boolean().default(false).meta({ description: 'Decapsulate IPIP.' }),
		gue: z.boolean().default(false).meta({ description: 'Decapsulate GUE (variant 1, to `gue_port`).' }),
		strict: z.boolean().default(true).meta({
			description:
				'Leave tunnel packets to other destinations alone; those to `encap_source` are decapsulated and passed to the host. `false`: any are.',
		}),
		destinations: z.array(addressText('An own address that tunnels end at: what comes out is balanced. At most 8.')).max(8).default([]),
		egress_destinations: z
			.array(addressText('An own address where GUE ends: what comes out goes back to the router that sent it. At most 8.'))
			.max(8)
			.default([]),
	})
	.prefault({})
	.meta({ description: 'Decapsulation on the load balancer itself.' });

export const serverIdsSchema = z.strictObject({
	address: addressText('The backend that owns these ids.'),
	ids: z.array(integer(1, 0xffff_ffff, 'A server id, as the backend writes it into its connection ids.')).min(1),
});

export const datapathSchema = z
	.strictObject({
		interface: interfaces.optional(),
		mode: z.enum(['native', 'generic', 'auto']).default('auto').meta({
			description: 'XDP in the driver (`native`), in the stack (`generic`), or native where the driver can and else generic (`auto`).',
		}),
		gateway_mac: gatewayMac.prefault('auto'),
		encap_source: z
			.strictObject({
				ipv4: autoOrAddress(4, "Outer IPv4 source of GUE; `auto` = the interface's own address.").prefault('auto'),
				ipv6: autoOrAddress(6, "Outer IPv6 source of GUE; `auto` = the interface's own address.").prefault('auto'),
			})
			.prefault({}),
		max_frame: integer(
			590,
			65_535,
			'Longest Ethernet frame taken for a vip, its header included, the outer header not yet added; longer ones are handled by `too_big`.',
		).default(1514),
		ring_size: ringSize
			.refine(isPrime, { error: 'a prime', params: { expected: 'a prime number, such as 65537 (default), 16381 or 131071' } })
			.default(65_537),
		max_backends_per_pool: integer(1, 65_535, 'Most backends in one pool. Fixed when the program is loaded.').default(4096),
		max_backends: integer(1, 1_048_576, 'Most backends in all pools together. Fixed when the program is loaded.').default(32_768),
		max_pools: integer(1, 65_535, 'Most pools. Fixed when the program is loaded.').default(4096),
		max_vips: integer(1, 65_535, 'Most vips. Fixed when the program is loaded.').default(4096),
		expected_flows: integer(1, 268_435_456, 'Flows alive at one time; sizes the flow table.').default(1_000_000),
		flow_entries: integer(64, 1_073_741_824, 'Entries of the flow table, 16 bytes each. Default: 4 for each expected flow.').optional(),
		flow_table: z
			.enum(['shared', 'per_cpu'])
			.default('shared')
			.meta({ description: 'One flow table for all CPUs, or one each (`flow_entries` is divided among them).' }),
		udp_idle: duration('1s', '1h', 'A UDP flow is forgotten when it was silent for this long.').prefault('30s'),
		new_flow_limit: integer(
			0,
			1_000_000_000,
			'Most flow-table inserts a second on each CPU; packets above it are still forwarded. 0 = no limit.',
		).default(0),
		hash_seed_file: pathText('A file.').nullable().default(null).meta({
			description:
				"File with a secret that the fleet shares, mixed into the flow hash; only where no Katran box shares the ECMP group. `null` = Katran's hash.",
		}),
		pin_path: absolutePath(200, 'Folder in bpffs that holds the pinned programs and maps.').prefault('/sys/fs/bpf/xdpilot'),
		encap: encap.default('ipip').meta({ description: 'Encapsulation of pools that name none, of server ids and of source routes.' }),
		gue_port: integer(1, 65_535, 'UDP destination port of GUE.').default(6080),
		gue_checksum: z
			.enum(['katran', 'exact'])
			.default('katran')
			.meta({ description: "GUE checksums around ICMP and around UDP without one: Katran's bytes, or correct ones." }),
		too_big: z
			.enum(['icmp', 'drop'])
			.default('icmp')
			.meta({ description: 'For frames above `max_frame`: tell the sender by ICMP, or drop in silence.' }),
		tcp_server_id: z.boolean().default(false).meta({ description: 'Route TCP by the server id in option 0xB7.' }),
		decap,
		server_ids: z
			.array(serverIdsSchema)
			.default([])
			.meta({ description: 'Server ids (QUIC connection ids, TCP option 0xB7) of backends.' }),
		source_routes: z
			.array(
				z.strictObject({
					prefixes: z.array(prefixText('Client addresses.')).min(1),
					backend: addressText('Where their packets go, whatever the ring says.'),
				}),
			)
			.default([])
			.meta({ description: 'Backends for clients of certain prefixes, for vips with the flag `source_routing`.' }),
	})
	.transform(({ interface: names, flow_entries, ...rest }) => ({
		...rest,
		/** Empty when the configuration names none. */
		interfaces: names ?? [],
		flow_entries: flow_entries ?? rest.expected_flows * 4,
	}));

export const poolSchema = z.strictObject({
	from: z
		.strictObject({
			source: nameText('Name of a source under `sources`.'),
			service: label(253, 'Name of the service in that source.'),
			tags: z.array(label(253, 'A tag.')).default([]).meta({ description: 'Consul: instances must carry all of these tags.' }),
			datacenter: label(253, "Consul: another datacenter than the source's.").optional(),
		})
		.meta({ description: 'Where the backends come from.' }),
	hash: z.enum(['maglev-v1', 'maglev-v2']).default('maglev-v2').meta({
		description: 'Ring algorithm; must equal that of a Katran box in the same ECMP group (its gRPC server uses v2, its library v1).',
	}),
	encap: encap.optional().meta({ description: 'Encapsulation towards these backends. Default: `datapath.encap`.' }),
	guard: z
		.strictObject({
			panic_threshold: percentage(
				'A snapshot that would leave less than this share of the backends in service is held, unless the registry proves that they were removed or failed.',
			).prefault('50%'),
			hold: duration('0s', '30d', 'How long such a snapshot is held back before it is believed.').prefault('10m'),
		})
		.prefault({}),
	debounce: z
		.strictObject({
			quiet: duration('0ms', '1m', 'A change is applied when the pool was quiet for this long.').prefault('50ms'),
			max: duration('0ms', '10m', 'A change is applied after this long at the latest, however busy the pool is.').prefault('500ms'),
		})
		.prefault({}),
	drain: duration('0s', '1d', 'How long a deregistered backend keeps its existing flows.').prefault('30s'),
});

export const vipSchema = z
	.strictObject({
		address: prefixText('The address that clients connect to, or a prefix of them.'),
		port: integer(0, 65_535, 'The port that clients connect to; 0 = every port.'),
		protocol: z.enum(['tcp', 'udp']).meta({ description: 'A service on both needs two vips.' }),
		pool: nameText('Name of the pool that serves it.'),
		flags: z.array(z.enum(VIP_FLAGS)).default([]).meta({ description: 'See docs/configuration.md for what each does.' }),
	})
	.transform(({ address, flags, ...rest }): Vip => ({ prefix: address, ...rest, flags: VIP_FLAGS.filter((name) => flags.includes(name)) }));

const controlSchema = z
	.strictObject({
		socket: absolutePath(96, 'The Unix socket of `status`, `why` and reload.').prefault('/run/xdpilot/control.sock'),
		group: label(32, 'Group whose members may use the socket, and may reload. Default: root alone.').optional(),
	})
	.prefault({})
	.meta({ description: 'The control socket.' });

const logSchema = z
	.strictObject({ level: z.enum(['trace', 'debug', 'info', 'warn', 'error']).default('info') })
	.prefault({})
	.meta({ description: 'The log, on stderr.' });

export const configSchema = z
	.strictObject({
		datapath: datapathSchema.prefault({}),
		control: controlSchema,
		log: logSchema,
		sources: z.record(z.string(), sourceSchema).meta({ description: 'Where desired state comes from, by name.' }),
		allowed_backends: z
			.union([z.literal('any'), z.array(prefixText('Backends may be here.')).min(1)])
			.optional()
			.meta({
				description:
					'Prefixes that backends may lie in. Required with a consul or etcd source; `any` allows all but what can never be a backend.',
			}),
		allowed_vips: z
			.array(prefixText('Vips may be here.'))
			.default([])
			.meta({ description: 'Prefixes for vips that come from the registry.' }),
		pools: z.record(z.string(), poolSchema).default({}).meta({ description: 'Named sets of backends.' }),
		vips: z.array(vipSchema).default([]).meta({ description: 'What clients connect to.' }),
	})
	.transform(({ sources, pools, allowed_backends, ...rest }) => ({
		...rest,
		/** By name, in the order of the file. A Map, since a registry may well call something "constructor". */
		sources: new Map(Object.entries(sources)),
		pools: new Map(Object.entries(pools).map(([name, pool]) => [name, { ...pool, encap: pool.encap ?? rest.datapath.encap }] as const)),
		/** `any` also where the configuration says nothing, which cross-checks.ts allows for file sources only. */
		allowed_backends: allowed_backends ?? ('any' as const),
	}));

/** The parsed configuration: defaults filled in, values typed, durations in milliseconds, paths absolute (by loadConfig). */
export type Config = z.output<typeof configSchema>;
export type DatapathConfig = Config['datapath'];
export type ControlConfig = Config['control'];
export type PoolConfig = Config['pools'] extends Map<string, infer P> ? P : never;
export type { ConsulSourceConfig, EtcdSourceConfig, FileSourceConfig, SourceConfig, TlsConfig } from './source-schema.ts';
