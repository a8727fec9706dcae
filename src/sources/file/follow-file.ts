// SPDX-License-Identifier: Apache-2.0
// Follows the content of one file. Events of its folder make it quick, a slow poll makes it certain (network file
// systems, symbolic links, a folder that was replaced). A file that is still being written is not read: its size and
// times must stand still first, unless that takes longer than a second.
import { createHash } from 'node:crypto';
import { type BigIntStats, constants, type FSWatcher, watch } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import path from 'node:path';
import { type Env, sleep, type Timer } from '../../env.ts';
import { isSystemError, messageOf, XdpilotError } from '../../errors.ts';

/** Largest services file that is read: room for some 50,000 backends. */
export const MAX_FILE_BYTES = 4 * 1024 * 1024;

export interface FollowOptions {
	readonly path: string;
	readonly env: Env;
	readonly pollMs?: number;
	/** How long a file that is written in place must stand still; a quarter of it for one that was renamed into place. */
	readonly settleMs?: number;
	/** The content, first and after each change. */
	readonly onContent: (content: FileContent) => void;
	/** It was looked at, and is what it was. */
	readonly onUnchanged: () => void;
	readonly onError: (error: XdpilotError) => void;
}

export interface FileContent {
	readonly text: string;
	/** SHA-256 of the bytes, in hexadecimal. */
	readonly digest: string;
}

const POLL_MS = 2000;
const SETTLE_MS = 80;
const MAX_SETTLE_MS = 1000;

export class FileFollower {
	readonly #opts: FollowOptions;
	readonly #abort = new AbortController();
	/** What the file looked like when it was read last. */
	#seen: string | undefined;
	#inode: bigint | undefined;
	#digest: string | undefined;
	#watcher: FSWatcher | undefined;
	#folder: bigint | undefined;
	#timer: Timer | undefined;
	#running: Promise<void> | undefined;
	#isAskedAgain = false;

	constructor(opts: FollowOptions) {
		this.#opts = opts;
	}

	start(): void {
		this.#check();
	}

	/** Settles when nothing is under way any more; no callback is called afterwards. */
	async close(): Promise<void> {
		this.#abort.abort(new XdpilotError('E_SOURCE', 'the file is not followed any more'));
		this.#timer?.cancel();
		this.#watcher?.close();
		await this.#running;
	}

	/** Looks at the file; calls that come meanwhile become one more look. */
	#check(): void {
		if (this.#abort.signal.aborted) return;
		this.#isAskedAgain = this.#running !== undefined;
		if (this.#isAskedAgain) return;
		this.#timer?.cancel();
		this.#running = this.#look().finally(() => {
			this.#running = undefined;
			if (this.#abort.signal.aborted) return;
			this.#timer = this.#opts.env.setTimer(this.#opts.pollMs ?? POLL_MS, () => this.#check());
			if (this.#isAskedAgain) this.#check();
		});
	}

	async #look(): Promise<void> {
		const { onContent, onUnchanged, onError } = this.#opts;
		try {
			await this.#watchFolder();
			const content = await this.#readIfChanged();
			if (this.#abort.signal.aborted) return;
			if (content === undefined || content.digest === this.#digest) onUnchanged();
			else {
				this.#digest = content.digest;
				onContent(content);
			}
		} catch (e) {
			if (this.#abort.signal.aborted) return;
			// What comes back must be read, even if it looks the same.
			this.#seen = undefined;
			this.#digest = undefined;
			onError(fileError(this.#opts.path, e));
		}
	}

	/** The folder, not the file: the watch must survive a new file being renamed over the old one. */
	async #watchFolder(): Promise<void> {
		const folder = path.dirname(this.#opts.path);
		const { ino } = await stat(folder, { bigint: true });
		if (this.#watcher !== undefined && ino === this.#folder) return;
		this.#watcher?.close();
		this.#watcher = undefined;
		if (this.#abort.signal.aborted) return;
		try {
			// Any name: a symbolic link may be changed by swapping another one beside it.
			const watcher = watch(folder, () => this.#check());
			watcher.on('error', () => {
				watcher.close();
				if (this.#watcher === watcher) this.#watcher = undefined;
			});
			this.#watcher = watcher;
			this.#folder = ino;
		} catch (e) {
			// Out of inotify watches: the poll is left.
			if (!isSystemError(e)) throw e;
		}
	}

	/** Undefined when it still looks as it did when it was read last. */
	async #readIfChanged(): Promise<FileContent | undefined> {
		const { env } = this.#opts;
		const { signal } = this.#abort;
		const give = env.now() + MAX_SETTLE_MS;
		const settleMs = this.#opts.settleMs ?? SETTLE_MS;
		for (let before = await stat(this.#opts.path, { bigint: true }); ; ) {
			if (look(before) === this.#seen) return undefined;
			await sleep(env, before.ino === this.#inode ? settleMs : settleMs / 4, signal);
			const after = await stat(this.#opts.path, { bigint: true });
			if (look(after) === look(before) || env.now() >= give) {
				const { content, stats } = await readWhole(this.#opts.path);
				this.#seen = look(stats);
				this.#inode = stats.ino;
				return content;
			}
			before = after;
		}
	}
}

/** Reads a file once. @throws XdpilotError E_SOURCE */
export async function readContent(file: string): Promise<FileContent> {
	try {
		return (await readWhole(file)).content;
	} catch (e) {
		throw fileError(file, e);
	}
}

async function readWhole(file: string): Promise<{ content: FileContent; stats: BigIntStats }> {
	let handle: FileHandle | undefined;
	try {
		// Non-blocking: opening a FIFO that nobody writes to would wait for ever.
		handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
		const stats = await handle.stat({ bigint: true });
		if (!stats.isFile()) throw new XdpilotError('E_SOURCE', 'it is not a regular file');
		if (stats.size > MAX_FILE_BYTES) throw new XdpilotError('E_SOURCE', `it has ${stats.size} bytes, ${MAX_FILE_BYTES} are the limit`);
		const bytes = await handle.readFile();
		const digest = createHash('sha256').update(bytes).digest('hex');
		return { content: { text: new TextDecoder('utf-8', { fatal: true }).decode(bytes), digest }, stats };
	} finally {
		await handle?.close();
	}
}

/** Everything that changes when a file is written or replaced. */
function look(s: BigIntStats): string {
	return [s.dev, s.ino, s.size, s.mtimeNs, s.ctimeNs].join(':');
}

const REASONS: Readonly<Record<string, string>> = { ENOENT: 'there is no such file', EACCES: 'permission denied' };

function fileError(file: string, e: unknown): XdpilotError {
	const known = isSystemError(e) ? REASONS[e.code ?? ''] : e instanceof TypeError ? 'it is not UTF-8 text' : undefined;
	return new XdpilotError('E_SOURCE', `can't read ${file}: ${known ?? messageOf(e)}`, {
		cause: e,
		retryable: true,
		unaffected: 'what it said before is kept',
	});
}
