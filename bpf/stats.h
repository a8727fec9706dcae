/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Counting. Every CPU has lines of its own, so plain additions do; XDP runs with bottom halves off and does not nest.
 * What can be derived is not counted: frames sent are the sum over vips less local deliveries.
 */
#ifndef STATS_H
#define STATS_H

#include "config.h"
#include "maps.h"
#include "packet.h"

static __always_inline struct cpu_counters *this_cpu_counters(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&counters, &cpu);
}

static __always_inline void count_by(enum lb_counter which, __u64 n)
{
	struct cpu_counters *c = this_cpu_counters();

	if (likely(c))
		c->count[which] += n;
}

static __always_inline void count(enum lb_counter which)
{
	count_by(which, 1);
}

/* Leaves the frame to the host. */
static __always_inline int pass(__u32 frame_bytes)
{
	struct cpu_counters *c = this_cpu_counters();

	if (likely(c)) {
		c->count[CNT_PASS]++;
		c->count[CNT_PASS_BYTES] += frame_bytes;
	}
	return XDP_PASS;
}

/* The only way to drop a frame: under a reason. */
__noinline int drop(__u32 reason, __u32 frame_bytes)
{
	struct cpu_counters *c = this_cpu_counters();

	if (c && reason < LB_DROPS) {
		c->drop[reason]++;
		c->count[CNT_DROP_BYTES] += frame_bytes;
	}
	return XDP_DROP;
}

/* Counts a packet that goes to a backend. False if the maps are smaller than the program was told. */
static __always_inline bool count_packet(
	__u16 vip, __u32 backend, __u16 ip_bytes, __u32 frame_bytes, bool from_ring, __u32 kind)
{
	__u32 cpu = bpf_get_smp_processor_id();
	__u32 vip_key = cpu * config.max_vips + vip, backend_key = cpu * config.max_backends + backend;
	struct backend_counter *b;
	struct vip_counter *v;

	v = bpf_map_lookup_elem(&vip_counters, &vip_key);
	if (!v)
		return false;
	v->packets++;
	v->bytes += ip_bytes;
	v->frame_bytes += frame_bytes;
	if (from_ring) {
		v->ring++;
		if (kind & TCP_FLAG_SYN_BIT << 8)
			v->ring_syn++;
	}
	b = bpf_map_lookup_elem(&backend_counters, &backend_key);
	if (!b)
		return false;
	b->packets++;
	b->bytes += ip_bytes;
	return true;
}

#endif /* STATS_H */
