/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Layouts shared by the XDP programs and the control plane: tables here, counters in counters_abi.h, options in
 * config.h. src/datapath/abi.gen.ts is generated from the object's BTF; nothing is mirrored by hand. Only fixed-width types, no bitfields, explicit padding.
 * __be types are in network byte order, everything else is little-endian host order.
 */
#ifndef LB_ABI_H
#define LB_ABI_H

#include <linux/types.h>

/* Bits of a vip's flags; Katran's values. */
enum vip_flag {
	VIP_HASH_NO_SOURCE_PORT = 1 << 0,
	VIP_NO_FLOW_TABLE = 1 << 1,
	VIP_QUIC = 1 << 2,
	VIP_HASH_DEST_PORT_ONLY = 1 << 3,
	VIP_SOURCE_ROUTING = 1 << 4,
	VIP_LOCAL = 1 << 5,
	VIP_GLOBAL_FLOW_TABLE = 1 << 6,
	VIP_HASH_SOURCE_DEST_PORT = 1 << 7,
	VIP_UDP_STABLE_ROUTING = 1 << 8,
	VIP_UDP_FLOW_MIGRATION = 1 << 9,
	/* Set by the control plane, not by users: the vip is a prefix, so that a flow's tag must hold its destination. */
	VIP_PREFIX = 1 << 30,
};

/* What a used slot of a vip bucket is. */
enum vip_kind {
	VIP_KIND_EMPTY = 0,
	VIP_KIND_VIP = 1,
	/* "some vip has this address": port and protocol are 0. Tells own traffic that can't be parsed from foreign. */
	VIP_KIND_ADDRESS = 2,
	/* or-ed to one of these in the keys of map vip_prefixes, which holds both families */
	VIP_KIND_IPV6 = 1 << 4,
};

#define VIP4_WAYS 4
#define VIP6_WAYS 2

/* The first 8 bytes, loaded as one little-endian word, are the key. Its hash: key * seed4. */
struct vip4_entry {
	__be32 address;
	__be16 port; /* 0 = every port */
	__u8 protocol;
	__u8 kind; /* enum vip_kind */
	__u16 vip; /* dense number, 1.. */
	__u16 pool;
	__u32 flags; /* enum vip_flag */
} __attribute__((aligned(8)));

struct vip4_bucket {
	struct vip4_entry entry[VIP4_WAYS];
};

/*
 * The key is three little-endian words: bytes 0..7, 8..15 (u64) and 16..19 (u32). Its hash:
 * word0 * seed6[0] + word1 * seed6[1] + word2 * seed6[2], modulo 2^64.
 */
struct vip6_entry {
	__be32 address[4];
	__be16 port;
	__u8 protocol;
	__u8 kind;
	__u32 pad;
	__u16 vip;
	__u16 pool;
	__u32 flags;
} __attribute__((aligned(8)));

struct vip6_bucket {
	struct vip6_entry entry[VIP6_WAYS];
};

/* Bits of a vip_prefix_key before the address. */
#define VIP_PREFIX_HEAD 32

/* Vips that are prefixes, in a longest-prefix-match trie. */
struct vip_prefix_key {
	__u32 length; /* VIP_PREFIX_HEAD + bits of the prefix */
	__be16 port; /* 0 = every port */
	__u8 protocol;
	__u8 kind; /* enum vip_kind */
	__be32 address[4]; /* IPv4: the first word */
};

/* The upper half of a vip4_entry or vip6_entry; all zero where the kind is VIP_KIND_ADDRESS. */
struct vip_prefix {
	__u16 vip;
	__u16 pool;
	__u32 flags;
} __attribute__((aligned(8)));

#define VIP_GROUP_BITS 10
#define VIP_GROUPS (1 << VIP_GROUP_BITS)

/*
 * How one of the two vip tables was built: seeds (all odd) and, for each group of keys, how far its buckets are moved.
 * Of a key's hash the top VIP_GROUP_BITS bits are the group, the next vip_bits the bucket before the move; the bucket
 * is their sum modulo the number of buckets. The control plane searches moves until no bucket overflows.
 */
struct vip_seed {
	__u64 seed4;
	__u64 seed6[3];
	__u16 move4[VIP_GROUPS];
	__u16 move6[VIP_GROUPS];
};

/* The one value of map `control`, mapped writable by the control plane. */
struct control {
	__u32 active_vips; /* 0 or 1: which vip table packets read. Flipped last. */
	__u32 pad;
	struct vip_seed vip_seed[2];
	__u64 pad2[7];
};

enum backend_state {
	BACKEND_FREE = 0,
	BACKEND_ACTIVE = 1,
	BACKEND_DRAINING = 2,
	BACKEND_DOWN = 3,
	/* unlinked; waits for a grace period and a sweep before its id is free */
	BACKEND_RETIRED = 4,
};

enum backend_flag {
	BACKEND_IPV6 = 1 << 0,
	BACKEND_GUE = 1 << 1,
	BACKEND_LOCAL = 1 << 2,
	/* the address is this host's own: encapsulating would loop */
	BACKEND_SELF = 1 << 3,
};

/* One cache line. `link` is stored last when an entry is created, and alone when anything changes. Id 0 is never used. */
struct backend {
	/* bytes 0..5 gateway MAC in wire order, byte 6 enum backend_flag, byte 7 enum backend_state */
	__u64 link;
	__be32 dst4;
	/* sum of the little-endian 16-bit words of the outer IPv4 bytes 45 00, 40 04, ac 10 and dst4; not folded */
	__u32 csum4;
	__be32 dst6[4];
	__u32 pool; /* control plane only */
	__u32 weight; /* control plane only: in the current ring; 0 = not in it */
	__u32 pad[6];
};

#define FLOW_WAYS 8

/* The packing of a flow entry. */
enum flow_layout {
	FLOW_BACKEND_SHIFT = 16,
	FLOW_BACKEND_BITS = 23,
	FLOW_ESTABLISHED_BIT = 39,
	FLOW_TIME_SHIFT = 40,
	FLOW_TIME_BITS = 24,
	FLOW_MIX = 0x5bd1e995,
};

/*
 * word[1]: vip 16 | backend 23 | established 1 | time 24 (jiffies >> clock_shift); 0 = empty.
 * word[0]: tag XOR (u64)(u32)(backend * FLOW_MIX + vip) << 32, so that a torn pair is a miss.
 *
 * Tag and bucket, all sums modulo 2^64; packet fields are little-endian loads of the bytes as sent:
 *   IPv4: hash = (src | sport << 32) * k[0] + dst * k[1]
 *         tag  = src | sport << 32 | dport << 48
 *   IPv6: hash = src[0..7] * k[0] + src[8..15] * k[1] + dst[8..15] * k[2] + (sport << 32) * k[3]
 *         tag  = (sum of src word i * k[4 + i], i < 4, + (sport | dport << 16) * k[8]) >> 32
 *              | (the same with k[9 + i] and k[13]) >> 32 << 32
 *   For a vip that is a prefix, of either family: the IPv6 tag, with the sum of dst word i * k[14 + i] in the lower
 *   half and of dst word i * k[18 + i] in the upper half added before the shift.
 *   bucket = (hash >> 32) * flow_buckets >> 32, plus cpu * flow_buckets with flow_per_cpu; k = lb_config.flow_key.
 * The ports are those after the vip's flags: sport 0 with hash_no_source_port; dport 0 for a port-0 vip without
 * hash_source_dest_port and hash_dest_port_only. (hash_dest_port_only leaves src and sport as they are here.)
 */
struct flow_entry {
	__u64 word[2];
};

struct flow_bucket {
	struct flow_entry entry[FLOW_WAYS];
};

/*
 * Head of the single value of an inner map of `rings`. It is followed by u16 rank[ring_size + 1], each an index
 * into u32 id[max_backends_per_pool], which follows in turn, zero behind the last. n = 0: an empty pool.
 */
struct ring_head {
	__u32 size;
	__u32 n;
};

#define META_FORMAT 1

/* The one value of map `meta`: what an adopting control plane compares. Never read by packets. */
struct meta {
	__u32 format; /* META_FORMAT; 0 = not written yet */
	__u32 hz; /* jiffies a second, measured at load */
	__u32 clock_shift;
	__u32 generation; /* of this set of maps */
	__u8 layout_hash[32]; /* of abi.gen.ts */
	__u8 object_hash[32]; /* SHA-256 of the object file */
	__u8 options_hash[32]; /* of everything in lb_config but flow_key */
	__u64 flow_key[24];
	/* the inner maps' sizes, which can't be read from the outer one */
	__u32 ring_size;
	__u32 max_backends_per_pool;
	__u64 netns; /* inode of the network namespace of the interface: its number alone is not unique */
};

enum pool_phase {
	POOL_NONE = 0, /* no ring was ever written; with an empty name, the row is unused */
	POOL_PENDING = 1, /* a ring write was begun and not confirmed: write it again */
	POOL_FINAL = 2, /* the outer slot holds the ring described here */
};

enum pool_number {
	POOL_SERVER_IDS = 0, /* the implicit pool of server ids; it has backends, never a ring */
};

/* A ring can't be read back; its row says what it was made of. Value of map `pool_rows`, by pool number. */
struct pool_row {
	__u8 name[128]; /* UTF-8, NUL padded */
	__u8 inputs[32]; /* digest of hash, ring size, backends, weights and ids */
	__u8 digest[32]; /* of the ring */
	__u32 phase; /* enum pool_phase */
	__u32 generation;
	__u32 hash; /* 1 maglev-v1, 2 maglev-v2 */
	__u32 members;
	__u64 pad[6];
};

_Static_assert(sizeof(struct vip4_bucket) == 64, "one cache line");
_Static_assert(sizeof(struct vip6_bucket) == 64, "one cache line");
_Static_assert(sizeof(struct control) % 64 == 0, "whole cache lines");
_Static_assert(sizeof(struct backend) == 64, "one cache line");
_Static_assert(sizeof(struct flow_bucket) == 128, "two adjacent cache lines");
_Static_assert(sizeof(struct meta) == 320, "no hidden padding");
_Static_assert(sizeof(struct pool_row) == 256, "no hidden padding");

#endif /* LB_ABI_H */
