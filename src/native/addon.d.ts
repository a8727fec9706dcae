// SPDX-License-Identifier: Apache-2.0
// The whole surface of the native addon. Bytes in, bytes out, errno out: it knows fds and lengths, not vips or
// pools. Every failure is a system error: { code: 'E2BIG', errno: -7, syscall: 'bpf(BPF_MAP_UPDATE_ELEM)', path | map | program }
// (kernel-internal codes are ENOTSUPP, libbpf's own ELIBBPF); a wrong argument is a TypeError. Methods ending in Async
// never throw: they run on worker threads, with their own descriptor, and reject with the same errors. Handles
// close(); closed ones give EBADF; a handle that is dropped, or whose thread ends, closes itself.

export interface MapInfo {
	readonly id: number;
	readonly name: string;
	readonly type: number;
	readonly keySize: number;
	readonly valueSize: number;
	readonly maxEntries: number;
	readonly flags: number;
}

export interface MapSpec {
	readonly name: string;
	readonly type: number;
	readonly keySize: number;
	readonly valueSize: number;
	readonly maxEntries: number;
	readonly flags: number;
}

export class BpfMap {
	/** A new map that is pinned nowhere. `inner`: the template of a map-in-map; it may be closed afterwards. */
	static create(spec: MapSpec & { readonly inner?: BpfMap }): BpfMap;
	/**
	 * As many new arrays as `values` has values, each with its value under key 0, made on worker threads. `values`
	 * must stay unchanged until then. Rejects with the property `done` = the number of the one that failed, and makes none.
	 */
	static createFilledAsync(spec: MapSpec, values: Uint8Array): Promise<BpfMap[]>;
	/** Opens a pinned map. */
	static open(path: string): BpfMap;
	readonly fd: number;
	info(): MapInfo;
	/** undefined = ENOENT. For per-CPU maps: value size rounded up to 8, times possible CPUs. */
	lookup(key: Uint8Array): Uint8Array | undefined;
	/** flags: BPF_ANY 0, BPF_NOEXIST 1, BPF_EXIST 2. A map-in-map value is the inner map's fd as u32. */
	update(key: Uint8Array, value: Uint8Array, flags?: number): void;
	/** false = was absent. */
	delete(key: Uint8Array): boolean;
	/** First key without an argument; undefined at the end. */
	nextKey(key?: Uint8Array): Uint8Array | undefined;
	/**
	 * BPF_MAP_UPDATE_BATCH; returns after the grace period for map-in-map types. count = keys.length / keySize.
	 * Descriptors among the values must stay open until then. A failure has the property `done`: elements written before it.
	 */
	updateBatchAsync(keys: Uint8Array, values: Uint8Array): Promise<void>;
	/** The same by single updates from `threads` threads of its own: for kernels on which a batch waits per element. */
	updateParallelAsync(keys: Uint8Array, values: Uint8Array, threads: number): Promise<void>;
	updateAsync(key: Uint8Array, value: Uint8Array, flags?: number): Promise<void>;
	deleteAsync(key: Uint8Array): Promise<boolean>;
	/**
	 * Maps the values of a BPF_F_MMAPABLE array, each rounded up to 8 bytes; the memory lives until the buffer is
	 * collected, also after close(). A store into a readOnly one ends the process with SIGSEGV.
	 */
	mmap(opts?: { readonly readOnly?: boolean }): ArrayBuffer;
	pin(path: string): void;
	close(): void;
}

export class BpfProgram {
	static open(path: string): BpfProgram;
	readonly fd: number;
	info(): {
		readonly id: number;
		readonly name: string;
		readonly tag: string;
		readonly xlatedBytes: number;
		readonly jitedBytes: number;
		readonly verifiedInstructions: number;
	};
	/** BPF_PROG_TEST_RUN. durationNs is the mean of one run. repeat restores nothing between runs. */
	testRun(
		frame: Uint8Array,
		opts?: { readonly repeat?: number; readonly ifindex?: number; readonly outSize?: number; readonly liveFrames?: boolean },
	): { readonly verdict: number; readonly out: Uint8Array; readonly durationNs: number };
	testRunAsync(
		frame: Uint8Array,
		opts?: { readonly repeat?: number; readonly ifindex?: number; readonly outSize?: number; readonly liveFrames?: boolean },
	): Promise<{ readonly verdict: number; readonly out: Uint8Array; readonly durationNs: number }>;
	/**
	 * Runs each frame once, in order, in one call. Frames are packed: u32 little-endian length, then the bytes; the result
	 * likewise with a u32 verdict before each length. A failure has the property `done`: the number of its frame.
	 */
	testRunMany(frames: Uint8Array): Uint8Array;
	pin(path: string): void;
	close(): void;
}

export class BpfLink {
	readonly fd: number;
	static open(path: string): BpfLink;
	/** flags: XDP_FLAGS_SKB_MODE 2, XDP_FLAGS_DRV_MODE 4. EBUSY when the interface has a program. ifindex is looked up in the calling thread's network namespace. */
	static attachXdp(program: BpfProgram, ifindex: number, flags: number): BpfLink;
	/** Replaces the program atomically; with `expected`, only if that one is attached (BPF_F_REPLACE). */
	update(program: BpfProgram, expected?: BpfProgram): void;
	info(): { readonly id: number; readonly type: number; readonly programId: number; readonly ifindex: number };
	pin(path: string): void;
	/** Detaches unless the link is pinned. */
	close(): void;
}

export interface ObjectMap extends MapSpec {
	/** For map-in-map. */
	readonly inner?: MapSpec;
}

/** A BPF ELF object between open and load. */
export class BpfObject {
	static open(path: string): BpfObject;
	readonly maps: readonly ObjectMap[];
	readonly programs: readonly { readonly name: string; readonly section: string }[];
	/** Before load. innerValueSize, innerMaxEntries: of a map-in-map's template. */
	resizeMap(
		name: string,
		opts: {
			readonly maxEntries?: number;
			readonly valueSize?: number;
			readonly innerValueSize?: number;
			readonly innerMaxEntries?: number;
		},
	): void;
	/** Before load: take this existing map instead of creating one. */
	reuseMap(name: string, map: BpfMap): void;
	/** Before load: the initial bytes of .rodata. Always the same array; what it holds at load() is what programs read. */
	rodata(): Uint8Array;
	setAutoload(program: string, load: boolean): void;
	/** Once only, also after a failure. @throws a system error with `verifierLog`: libbpf's warnings and the verifier's log */
	load(): void;
	/** After load. */
	map(name: string): BpfMap;
	program(name: string): BpfProgram;
	/** Lets go of libbpf's object; maps and programs handed out stay valid. */
	close(): void;
}

export interface RingInput {
	/** 1 or 2 */
	readonly version: number;
	/** Endpoint hashes in ring order (sorted by hash, ties by address). */
	readonly hashes: BigUint64Array;
	/** Same length, each from 1 to 65535. */
	readonly weights: Uint32Array;
	/** Same length: what a slot holds for each member; its index in `hashes` when this is absent. */
	readonly ranks?: Uint16Array;
}

/**
 * Builds Maglev rings on worker threads. Up to 65535 members; ringSize a prime above 2, anything else is a TypeError,
 * since a stride would miss slots.
 */
export function buildRingsAsync(rings: readonly RingInput[], ringSize: number): Promise<Uint16Array[]>;
export function buildRing(ring: RingInput, ringSize: number): Uint16Array;

/**
 * For each 16-byte flow entry (two little-endian u64) in `table` whose word 1 satisfies `(word1 & mask) == v` for a v in
 * `values` (sorted): clears it by compare-and-exchange. Resolves with the number cleared.
 */
export function sweepFlowsAsync(table: ArrayBuffer, mask: bigint, values: BigUint64Array): Promise<number>;
/**
 * Clears entries whose time field (word1 >> 40) is more than maxAge ticks before now (mod 2^24). Up to 4096 ticks after
 * `now` is no age: packets go on while the table is scanned.
 */
export function expireFlowsAsync(table: ArrayBuffer, now: number, maxAge: number): Promise<number>;
/** Counts live entries by backend id (word1 >> 16 & 0x7fffff): result[id] = entries, for ids below `size`. */
export function countFlowsAsync(table: ArrayBuffer, size: number): Promise<Uint32Array>;

/** libbpf and kernel facts. possibleCpus: as in /sys/devices/system/cpu/possible. */
export function libbpfVersion(): string;
export function possibleCpus(): number;
/** sd_notify(3) to $NOTIFY_SOCKET; false when it is unset. */
export function sdNotify(state: string): boolean;
/** SO_PEERCRED of a connected Unix socket's fd. */
export function peerCredentials(fd: number): { readonly pid: number; readonly uid: number; readonly gid: number };
/**
 * Moves the calling thread into the network namespace at path (setns), for commands that work on another namespace.
 * Threads that exist already, libuv's among them once one was used, stay where they are.
 */
export function enterNetns(path: string): void;
/** flock(2) on an open file or folder, exclusive; false when another process has it. Released when the fd is closed or the process ends. */
export function tryLock(fd: number): boolean;
