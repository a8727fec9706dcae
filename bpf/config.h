/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The options of the program, set by the control plane before load. `volatile` keeps the compiler from folding the
 * defaults, `const` lets the verifier fold the real values: branches that are off vanish. The rules of lb_abi.h hold.
 */
#ifndef CONFIG_H
#define CONFIG_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "counters_abi.h"
#include "lb_abi.h"

enum too_big_mode {
	TOO_BIG_DROP = 0,
	TOO_BIG_ICMP = 1,
};

/* Bits of lb_config.decap. */
enum decap_flag {
	DECAP_IPIP = 1 << 0,
	DECAP_GUE = 1 << 1,
	DECAP_STRICT = 1 << 2, /* only packets for an address that we know */
};

#define DECAP_DESTINATIONS 8

struct lb_config {
	__u64 flow_key[24]; /* random, drawn when the flow table is created; they never leave the host */
	__u32 ring_size; /* prime; 65537 has a faster modulus */
	__u32 max_backends_per_pool;
	__u32 max_vips; /* vip_counters has cpus times this */
	__u32 max_backends; /* backend_counters has cpus times this */
	__u32 vip_bits; /* log2 of the buckets of one vip table; vips4 and vips6 hold two each. 1..20 */
	__u32 flow_buckets; /* of one flow table */
	__u32 flow_per_cpu; /* 0: one flow table for all CPUs; 1: flows holds cpus times flow_buckets */
	__u32 hash_seed; /* of the flow hash; Katran's is 512 * ring_size */
	__u32 hash_seed6; /* of the IPv6 address hash; Katran's is 512 */
	__u32 max_frame; /* bytes, with Ethernet header */
	__u32 too_big; /* enum too_big_mode */
	__u32 clock_shift; /* time unit of the flow table: 1 << clock_shift jiffies; about 64 ms */
	__u32 udp_idle; /* such units until a UDP flow is forgotten */
	__u32 hz;
	__u32 new_flow_limit; /* new flows remembered each second and CPU; 0 = all */
	__u32 server_ids; /* 1: map server_ids is filled; ids in datagrams to vips of such flags are looked up */
	__be32 gue_source4;
	__be32 gue_source6[4];
	__be16 gue_port;
	__u16 gue_exact; /* 1: true checksums where Katran's derivation gives none (gue.h) */
	__u16 decap; /* enum decap_flag; 0: tunnel packets are like any others */
	__u16 prefix_vips; /* 1: map vip_prefixes is asked */
	__u16 tcp_server_id; /* 1: TCP option 0xb7 is read on every vip */
	__u16 pad[1];
	/* two words each, as sent, IPv4 as ::ffff:a.b.c.d; zeros are unused */
	__u64 decap_destinations[2 * DECAP_DESTINATIONS];
	__u64 decap_egress[2 * DECAP_DESTINATIONS];
};

_Static_assert(sizeof(struct lb_config) == 544, "no hidden padding");

/* The defaults fit the max_entries of maps.h; flow_key is always replaced. */
const volatile struct lb_config config = {
	.ring_size = 65537,
	.max_backends_per_pool = 4096,
	.max_vips = 512,
	.max_backends = 4096,
	.vip_bits = 10,
	.flow_buckets = 1024,
	.hash_seed = 512u * 65537u,
	.hash_seed6 = 512,
	.max_frame = 1514,
	.clock_shift = 4,
	.udp_idle = 468,
	.hz = 250,
};

/*
 * Names the types that no map value mentions, so that their BTF is in the object. It has a section of its own, which
 * loaders skip: .rodata is exactly one struct lb_config.
 */
const struct abi_types {
	enum vip_flag vip_flag;
	enum vip_kind vip_kind;
	enum backend_state backend_state;
	enum backend_flag backend_flag;
	enum flow_layout flow_layout;
	enum lb_counter lb_counter;
	enum lb_drop lb_drop;
	enum pool_phase pool_phase;
	enum pool_number pool_number;
	enum too_big_mode too_big_mode;
	enum decap_flag decap_flag;
	struct ring_head ring_head;
	struct vip_prefix_key vip_prefix_key;
} abi_types SEC(".abi") = {};

#endif /* CONFIG_H */
