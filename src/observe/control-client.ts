// SPDX-License-Identifier: Apache-2.0
// One request to a running daemon over its control socket. Errors that the daemon answers arrive as they left it.
import { request } from 'node:http';
import { ConfigError, type ConfigIssue } from '../config/config-error.ts';
import { ERROR_CODES, type ErrorCode, messageOf, XdpilotError } from '../errors.ts';

const MAX_ANSWER_BYTES = 256 * 1024 * 1024;
const DEFAULT_TIMEOUT_MS = 10_000;

export interface ControlRequest {
	readonly socket: string;
	readonly method: 'GET' | 'POST';
	/** With query string, e.g. "/status". */
	readonly path: string;
	/** Milliseconds without a byte. */
	readonly timeoutMs?: number;
}

/**
 * The daemon's answer, parsed but not checked: both ends are the same program.
 * @throws XdpilotError E_DAEMON_UNREACHABLE, E_PERMISSION, or what the daemon answered
 */
export async function requestControl(what: ControlRequest): Promise<unknown> {
	const { status, body } = await exchange(what);
	const answer = parse(body, what.socket);
	if (status === 200) return answer;
	throw answeredError(answer, what.socket);
}

function exchange({ socket, method, path, timeoutMs = DEFAULT_TIMEOUT_MS }: ControlRequest): Promise<{ status: number; body: string }> {
	return new Promise((resolve, reject) => {
		const call = request({ socketPath: socket, method, path, agent: false, timeout: timeoutMs, headers: { host: 'localhost' } });
		call.on('timeout', () => call.destroy(unreachable(`the daemon at ${socket} does not answer within ${timeoutMs} ms`)));
		call.on('error', (e: NodeJS.ErrnoException) => reject(e instanceof XdpilotError ? e : connectionError(e, socket)));
		call.on('response', (response) => {
			const chunks: Buffer[] = [];
			let size = 0;
			response.on('data', (chunk: Buffer) => {
				chunks.push(chunk);
				size += chunk.length;
				if (size > MAX_ANSWER_BYTES) call.destroy(unreachable(`the answer of ${socket} has more than ${MAX_ANSWER_BYTES} bytes`));
			});
			response.on('error', (e: NodeJS.ErrnoException) => reject(e instanceof XdpilotError ? e : connectionError(e, socket)));
			response.on('end', () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') }));
		});
		call.end();
	});
}

function connectionError(e: NodeJS.ErrnoException, socket: string): XdpilotError {
	if (e.code === 'EACCES' || e.code === 'EPERM') {
		return new XdpilotError('E_PERMISSION', `no permission to use ${socket}`, {
			hint: 'sudo xdpilot status     or become a member of the group in control.group',
			cause: e,
		});
	}
	const reason: Readonly<Record<string, string>> = {
		ENOENT: `no daemon is running: there is no socket ${socket}`,
		ECONNREFUSED: `no daemon is running: nobody listens on ${socket}`,
		ENOTSOCK: `${socket} is not a socket`,
	};
	return unreachable(reason[e.code ?? ''] ?? `the daemon at ${socket} broke the connection off: ${messageOf(e)}`, e);
}

function unreachable(message: string, cause?: unknown): XdpilotError {
	return new XdpilotError('E_DAEMON_UNREACHABLE', message, {
		hint: 'systemctl status xdpilot     or name another socket with --socket PATH',
		retryable: true,
		cause,
	});
}

function parse(body: string, socket: string): unknown {
	try {
		return JSON.parse(body);
	} catch (e) {
		throw unreachable(`what answers on ${socket} is not XDPilot`, e);
	}
}

/** The error that a daemon's answer describes. */
function answeredError(answer: unknown, socket: string): XdpilotError {
	const error = member(answer, 'error');
	const text = (name: string): string | undefined => {
		const value = member(error, name);
		return typeof value === 'string' ? value : undefined;
	};
	const code: ErrorCode = ERROR_CODES.find((known) => known === text('code')) ?? 'E_INTERNAL';
	const issues = member(error, 'issues');
	const file = Array.isArray(issues) ? member(issues[0], 'file') : undefined;
	if (Array.isArray(issues) && typeof file === 'string') return new ConfigError(file, issues as ConfigIssue[]);
	const unaffected = text('unaffected');
	const hint = text('hint');
	return new XdpilotError(code, text('message') ?? `${socket} answered with an error that can't be read`, {
		...(unaffected === undefined ? {} : { unaffected }),
		...(hint === undefined ? {} : { hint }),
	});
}

function member(value: unknown, name: string): unknown {
	return typeof value === 'object' && value !== null && Object.hasOwn(value, name) ? Reflect.get(value, name) : undefined;
}
