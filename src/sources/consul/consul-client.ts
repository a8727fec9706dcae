// SPDX-License-Identifier: Apache-2.0
// The calls of the consul package that a source needs, typed and bounded. Only its one-shot calls: its watch() stays
// blind after an index reset, dies of one malformed answer, and knows no rate limit. Bodies come back as `unknown`.
import http from 'node:http';
import https from 'node:https';
import Consul from 'consul';
import type { ConsulAddress } from '../../config/source-schema.ts';
import type { Env } from '../../env.ts';
import { messageOf, XdpilotError } from '../../errors.ts';
import type { TlsFiles } from '../credentials.ts';
import { CallContext } from './call-context.ts';

export interface ConsulClientOptions {
	readonly address: ConsulAddress;
	readonly tls: TlsFiles;
	readonly serverName: string | undefined;
	readonly token: string | undefined;
	readonly datacenter: string | undefined;
	readonly env: Env;
	/** Its sockets are the caller's to close. */
	readonly agent: http.Agent;
}

export interface HealthQuery {
	readonly service: string;
	readonly tags: readonly string[];
	/** Waits for something newer than this; undefined: answers at once. */
	readonly index: bigint | undefined;
	/** Milliseconds to wait for something newer. */
	readonly waitMs: number;
	/** Any server may answer, not only the leader. */
	readonly isStale: boolean;
}

/** An answer with what its headers say about it. */
export interface ConsulAnswer {
	readonly body: unknown;
	readonly index: bigint;
	/** Milliseconds since the answering server heard from the leader. */
	readonly lastContactMs: number;
	/** The connection stays open for the next query. */
	readonly isKeptAlive: boolean;
	/** The token hides something; told by Consul 1.11 and later. */
	readonly isFiltered: boolean;
}

/** A service of 20,000 instances; parsing more would stop everything else for a second. */
const MAX_BODY_BYTES = 16 * 1024 * 1024;
/** Consul adds up to a sixteenth to the wait, so that blocked queries do not all return at once. */
const WAIT_SPREAD = 1 / 16;
export const CALL_MS = 5000;

/** The parts of the package that its typings leave out. */
interface Papi {
	_ext(event: 'onCreate', hook: (request: { opts: { ctx?: unknown; pipe?: unknown } }, next: () => void) => void): void;
	_ext(event: 'onRequest', hook: (request: { req: { hostname?: string } }, next: () => void) => void): void;
	_post(request: object): Promise<unknown>;
}
type Call = (options: object) => Promise<[http.IncomingMessage, ...unknown[]]>;

export class ConsulClient {
	readonly #opts: ConsulClientOptions;
	readonly #consul: Consul;

	constructor(opts: ConsulClientOptions) {
		this.#opts = opts;
		const { address, tls, serverName, agent } = opts;
		const where =
			address.kind === 'unix' ? { socketPath: address.path } : { host: hostOf(address.host), port: address.port, secure: address.secure };
		const options = { ...where, ...tls, ...(serverName === undefined ? {} : { servername: serverName }), agent };
		this.#consul = new Consul(options);
		this.#papi._ext('onCreate', (request, next) => {
			if (request.opts.ctx instanceof CallContext) request.opts.pipe = request.opts.ctx.body;
			next();
		});
		// It takes the host from a URL, brackets and all, and node:http would look that up as a name.
		this.#papi._ext('onRequest', ({ req }, next) => {
			if (address.kind === 'tcp') req.hostname = address.host;
			next();
		});
	}

	/** The instances of a service with all their checks. */
	async health(query: HealthQuery, signal: AbortSignal): Promise<ConsulAnswer> {
		const { service, tags, index, waitMs, isStale } = query;
		const blocking = index === undefined ? {} : { index: String(index), wait: `${Math.round(waitMs)}ms` };
		const deadlineMs = index === undefined ? CALL_MS : waitMs * (1 + WAIT_SPREAD) + CALL_MS;
		const options = { service, ...(tags.length > 0 ? { tag: [...tags] } : {}), ...(isStale ? { stale: true } : {}), ...blocking };
		const { headers, text } = await this.#call(
			this.#consul.health.service.bind(this.#consul.health) as unknown as Call,
			options,
			deadlineMs,
			signal,
		);
		const raw = headers['x-consul-index'];
		if (typeof raw !== 'string' || !/^\d{1,20}$/.test(raw)) throw failure('the answer has no X-Consul-Index: is this Consul?');
		if (headers['x-consul-knownleader'] === 'false') throw failure('the cluster has no leader');
		return {
			body: parse(text),
			index: BigInt(raw),
			lastContactMs: Number(headers['x-consul-lastcontact'] ?? 0),
			isKeptAlive: headers.connection !== 'close',
			isFiltered: headers['x-consul-results-filtered-by-acls'] === 'true',
		};
	}

	/** A node and its services; null when there is none, or the token does not show it. */
	async node(node: string, signal: AbortSignal): Promise<unknown> {
		const services = this.#consul.catalog.node.services.bind(this.#consul.catalog.node) as unknown as Call;
		return parse((await this.#call(services, { node }, CALL_MS, signal)).text);
	}

	/**
	 * Whether the token may read the service and each of the nodes; undefined when Consul does not say (before 1.8, or
	 * behind a proxy that hides this).
	 */
	async mayRead(
		service: string,
		nodes: readonly string[],
		signal: AbortSignal,
	): Promise<{ service: boolean; nodes: ReadonlySet<string> } | undefined> {
		const right = (Resource: string, Segment: string) => ({ Resource, Access: 'read', Segment });
		const asked = [right('service', service), ...nodes.map((n) => right('node', n))];
		let allowed: boolean[];
		try {
			const query = this.#opts.datacenter === undefined ? {} : { dc: this.#opts.datacenter };
			const post: Call = (options) =>
				this.#papi._post({ name: 'acl.authorize', path: '/internal/acl/authorize', body: asked, query, ...options }) as ReturnType<Call>;
			const answer = parse((await this.#call(post, {}, CALL_MS, signal)).text);
			if (!Array.isArray(answer) || answer.length !== asked.length) return undefined;
			allowed = answer.map((a: { Allow?: unknown }) => a.Allow === true);
		} catch (e) {
			if (signal.aborted || !(e instanceof XdpilotError)) throw e;
			if (!e.message.includes('ACL support disabled')) return undefined;
			allowed = asked.map(() => true);
		}
		return { service: allowed[0] === true, nodes: new Set(nodes.filter((_, i) => allowed[i + 1])) };
	}

	get #papi(): Papi {
		return this.#consul as unknown as Papi;
	}

	async #call(call: Call, options: object, deadlineMs: number, signal: AbortSignal) {
		const { env, token, datacenter } = this.#opts;
		const ctx = new CallContext({ env, deadlineMs, maxBytes: MAX_BODY_BYTES, signal });
		try {
			const headers = { ...(token === undefined ? {} : { token, headers: { 'x-consul-token': token } }) };
			const result = await ctx.run(() => call({ ...headers, ...(datacenter === undefined ? {} : { dc: datacenter }), ...options, ctx }));
			const [response] = Array.isArray(result) ? result : [result as http.IncomingMessage];
			return { headers: response.headers, text: ctx.text() };
		} catch (e) {
			if (signal.aborted) throw signal.reason;
			throw failure(`${describe(e)}${refusal(e, ctx)}`, e);
		}
	}
}

/** An agent for one connection at a time, or for `maxSockets`. */
export function consulAgent(address: ConsulAddress, maxSockets: number): http.Agent {
	const options = { keepAlive: true, maxSockets };
	return address.kind === 'tcp' && address.secure ? new https.Agent(options) : new http.Agent(options);
}

export function describeAddress(address: ConsulAddress): string {
	if (address.kind === 'unix') return `unix://${address.path}`;
	return `${address.secure ? 'https' : 'http'}://${hostOf(address.host)}:${address.port}`;
}

function hostOf(host: string): string {
	return host.includes(':') ? `[${host}]` : host;
}

function parse(text: string): unknown {
	try {
		return JSON.parse(text);
	} catch {
		throw failure('the answer is not JSON: is this Consul?');
	}
}

function failure(message: string, cause?: unknown): XdpilotError {
	return new XdpilotError('E_SOURCE', message, { cause, retryable: true });
}

/** The package prefixes every message with its own name and the call's. */
function describe(e: unknown): string {
	return messageOf(e).replace(/^consul: (?:[\w.]+: )?/, '');
}

/** What Consul said when it refused: the package keeps only the status. */
function refusal(e: unknown, ctx: CallContext): string {
	const isResponse = typeof e === 'object' && e !== null && 'isResponse' in e;
	const [line = ''] = isResponse ? ctx.text().split('\n') : [];
	return line === '' || line.startsWith('<') ? '' : `: ${line.slice(0, 200)}`;
}
