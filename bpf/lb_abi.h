/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Layouts shared by the XDP programs and the control plane. src/datapath/abi.gen.ts is generated from the
 * object's BTF; nothing is mirrored by hand. Only fixed-width types, no bitfields, explicit padding.
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
};

/* What a used slot of a vip bucket is. 0 = empty. */
enum vip_kind {
	VIP_KIND_EMPTY = 0,
	VIP_KIND_VIP = 1,
	/* "some vip has this address": port and protocol are 0. Tells own traffic that can't be parsed from foreign. */
	VIP_KIND_ADDRESS = 2,
};

#define VIP4_WAYS 4
#define VIP6_WAYS 2

/* 16 bytes; the first 8 compare as one word. */
struct vip4_entry {
	__be32 address;
	__be16 port; /* 0 = every port */
	__u8 protocol;
	__u8 kind; /* enum vip_kind */
	__u16 vip; /* dense number, 1.. */
	__u16 pool;
	__u32 flags; /* enum vip_flag */
};

struct vip4_bucket {
	struct vip4_entry entry[VIP4_WAYS];
};

struct vip6_entry {
	__be32 address[4];
	__be16 port;
	__u8 protocol;
	__u8 kind;
	__u16 vip;
	__u16 pool;
	__u32 flags;
	__u32 pad;
};

struct vip6_bucket {
	struct vip6_entry entry[VIP6_WAYS];
};

/* Seeds of one of the two vip tables; searched by the control plane until no bucket overflows. All odd. */
struct vip_seed {
	__u64 seed4;
	__u64 seed6[3];
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

/* One cache line. `link` is stored last when an entry is created, and alone when anything changes. */
struct backend {
	/* bytes 0..5 gateway MAC in wire order, byte 6 enum backend_flag, byte 7 enum backend_state */
	__u64 link;
	__be32 dst4;
	__u32 csum4; /* partial checksum of the constant fields of the outer IPv4 header */
	__be32 dst6[4];
	__u32 pool;
	__u32 pad[7];
};

#define FLOW_WAYS 8

/*
 * word[1]: vip 16 | backend 23 | established 1 | time 24 (units of 1 << clock_shift jiffies); 0 = empty.
 * word[0]: tag XOR flow_mix(vip and backend), so that a torn pair is a miss.
 */
struct flow_entry {
	__u64 word[2];
};

struct flow_bucket {
	struct flow_entry entry[FLOW_WAYS];
};

/* Head of the single value of an inner map of `rings`; then u16 rank[ring_size + 1], then u32 id[max_backends_per_pool]. */
struct ring_head {
	__u32 size;
	__u32 n;
};

/* One line per vip and CPU. */
struct vip_counter {
	__u64 packets;
	__u64 bytes; /* IP length field */
	__u64 frame_bytes;
	__u64 ring; /* packets that took the ring */
	__u64 ring_syn; /* of these, TCP SYN */
	__u64 pad[3];
};

struct backend_counter {
	__u64 packets;
	__u64 bytes;
};

#endif /* LB_ABI_H */
