/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The options of the program, set by the control plane before load (see struct lb_config for their meaning).
 * `volatile` keeps the compiler from folding the defaults, `const` lets the verifier fold the real values.
 */
#ifndef CONFIG_H
#define CONFIG_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "lb_abi.h"

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
	struct ring_head ring_head;
} abi_types SEC(".abi") = {};

#endif /* CONFIG_H */
