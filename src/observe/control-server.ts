// SPDX-License-Identifier: Apache-2.0
// The control socket: `status`, `why` and reload for whoever may connect, changes only for those whom SO_PEERCRED
// names. Whatever a client does, the daemon goes on: sizes, times and connections are bounded, failures become answers.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Flow } from '../datapath/datapath.ts';
import { type ErrorCode, isXdpilotError, messageOf, XdpilotError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { parseFlowQuery } from './flow-query.ts';
import type { UserDatabase } from './groups.ts';
import type { StatusReport, WhyReport } from './report.ts';
import { inodeOf, listenAt, removeSocket } from './socket-file.ts';

const MAX_CONNECTIONS = 64;
const MAX_HEADER_BYTES = 8192;
const REQUEST_TIMEOUT_MS = 5000;

export interface PeerCredentials {
	readonly pid: number;
	readonly uid: number;
	readonly gid: number;
}

export interface ReloadReport {
	readonly schema: 'xdpilot.reload/v1';
	/** One sentence each; empty when the configuration says what it said before. */
	readonly changes: readonly string[];
	/** Keys that changed but take effect at the next start only. */
	readonly at_next_start: readonly string[];
}

/** What the daemon answers. May throw or reject with anything: the client gets it as an error. */
export interface ControlHandlers {
	status(): StatusReport | Promise<StatusReport>;
	why(flow: Flow): WhyReport | Promise<WhyReport>;
	reload(): Promise<ReloadReport>;
}

export interface ControlServerOptions {
	/** Absolute path of at most 96 bytes. */
	readonly socket: string;
	/** Name or number of the group that may connect and reload; root alone when undefined. */
	readonly group: string | undefined;
	readonly handlers: ControlHandlers;
	/** SO_PEERCRED of a connected socket: the addon's. */
	readonly peerCredentials: (fd: number) => PeerCredentials;
	readonly users: UserDatabase;
	readonly logger: Logger;
}

export interface ControlServer {
	/** Ends all connections and removes the socket. */
	close(): Promise<void>;
}

/** @throws XdpilotError E_CONTROL, E_PERMISSION when the socket can't be opened */
export async function startControlServer(options: ControlServerOptions): Promise<ControlServer> {
	const { socket, group, logger, users } = options;
	const gid = group === undefined ? (process.getegid?.() ?? 0) : users.group(group)?.gid;
	if (gid === undefined) {
		const hint = `groupadd --system ${group}     or name another group in control.group`;
		throw new XdpilotError('E_CONTROL', `the group ${group} of control.group does not exist`, { unaffected: 'nothing was changed', hint });
	}
	const server = createServer({
		maxHeaderSize: MAX_HEADER_BYTES,
		requestTimeout: REQUEST_TIMEOUT_MS,
		headersTimeout: REQUEST_TIMEOUT_MS,
		keepAliveTimeout: 1000,
		connectionsCheckingInterval: 1000,
	});
	server.maxConnections = MAX_CONNECTIONS;
	server.on('request', (request, response) => void answer(options, request, response));
	server.on('clientError', (_error, connection) => void connection.destroy());
	await listenAt(server, socket, gid);
	server.on('error', (error) => logger.warn({ err: error }, 'control socket'));
	const inode = inodeOf(socket);
	return { close: () => close(server, socket, inode) };
}

function close(server: Server, socket: string, inode: bigint): Promise<void> {
	removeSocket(socket, inode);
	return new Promise((resolve) => {
		server.close(() => resolve());
		server.closeAllConnections();
	});
}

async function answer(options: ControlServerOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
	// No command has a body; one that is sent is not read.
	request.on('error', () => request.destroy());
	response.on('error', () => response.destroy());
	try {
		send(response, 200, await route(options, request));
	} catch (e) {
		const failure = isXdpilotError(e) ? e : new XdpilotError('E_INTERNAL', messageOf(e), { cause: e });
		if (failure.code === 'E_INTERNAL') options.logger.error({ err: e, url: request.url }, 'a control request failed');
		send(response, HTTP_STATUS[failure.code] ?? 500, {
			error: {
				code: failure.code,
				message: failure.message,
				unaffected: failure.unaffected ?? null,
				hint: failure.hint ?? null,
				issues: 'issues' in failure ? failure.issues : null,
			},
		});
	}
}

const HTTP_STATUS: Partial<Record<ErrorCode, number>> = { E_USAGE: 400, E_PERMISSION: 403, E_CONFIG: 422, E_NOT_BUILT: 422 };

async function route(options: ControlServerOptions, request: IncomingMessage): Promise<unknown> {
	const { pathname, searchParams } = new URL(request.url ?? '/', 'http://localhost');
	const { handlers } = options;
	switch (`${request.method} ${pathname}`) {
		case 'GET /status':
			return handlers.status();
		case 'GET /why':
			return handlers.why(parseFlowQuery(searchParams));
		case 'POST /reload':
			authorize(options, request);
			return handlers.reload();
		default:
			throw new XdpilotError('E_USAGE', `${request.method} ${pathname} is no request that this daemon knows`);
	}
}

/** Changes are for root, the daemon's own user, and members of control.group. @throws XdpilotError E_PERMISSION */
function authorize({ peerCredentials, users, group, logger }: ControlServerOptions, request: IncomingMessage): void {
	const peer = peerCredentials(fdOf(request));
	const named = group === undefined ? undefined : users.group(group);
	const allowed =
		peer.uid === 0 ||
		peer.uid === process.geteuid?.() ||
		(named !== undefined && (peer.gid === named.gid || named.members.includes(users.userName(peer.uid) ?? '')));
	logger.info({ peer, allowed, request: request.url }, 'control request');
	if (allowed) return;
	throw new XdpilotError('E_PERMISSION', `uid ${peer.uid} may not do this`, {
		unaffected: 'nothing was changed',
		hint: group === undefined ? 'run it as root' : `run it as root or as a member of the group ${group}`,
	});
}

/** The connection's file descriptor. Node has no public way to it; its handle has had this field since 0.11. */
function fdOf(request: IncomingMessage): number {
	const handle: unknown = Reflect.get(request.socket, '_handle');
	const fd: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : undefined;
	if (typeof fd !== 'number' || fd < 0) throw new XdpilotError('E_PERMISSION', 'the caller can not be identified');
	return fd;
}

function send(response: ServerResponse, status: number, body: unknown): void {
	if (response.destroyed || response.headersSent) return;
	const text = `${JSON.stringify(body)}\n`;
	response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text), connection: 'close' });
	response.end(text);
}
