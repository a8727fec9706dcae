/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every map of the load balancer. max_entries here are the smallest that load; the control plane sets the real
 * ones. "mapped" maps are read and written by the control plane through mmap, without system calls;
 * BPF_F_MMAPABLE also starts the values on a page, without which every 64-byte value would straddle two lines.
 * All are pinned and survive the daemon; none is ever read by more than the programs and one daemon.
 */
#ifndef MAPS_H
#define MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "counters_abi.h"
#include "lb_abi.h"

/* Which vip table is live, and the tables' seeds. Written by the control plane: one word flips the table. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct control);
} control SEC(".maps");

/*
 * Vips by address, port and protocol: two tables of 1 << vip_bits buckets each, one behind the other. The control
 * plane writes the table that is not live, and only after a grace period since it was. A full bucket can't happen:
 * the control plane searches moves of groups of keys until every vip fits (lb_abi.h).
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2 << 10);
	__type(key, __u32);
	__type(value, struct vip4_bucket);
} vips4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2 << 10);
	__type(key, __u32);
	__type(value, struct vip6_bucket);
} vips6 SEC(".maps");

/* Vips that are prefixes, and "a vip has these addresses". Written by the control plane, entry by entry. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2048);
	__type(key, struct vip_prefix_key);
	__type(value, struct vip_prefix);
} vip_prefixes SEC(".maps");

/* Backends by id; id 0 is never used. Written by the control plane in aligned 8-byte stores, `link` last. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct backend);
} backends SEC(".maps");

/* One value: struct ring_head, ranks, ids. value_size is set before load, from ring_size and max_backends_per_pool. */
struct ring {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__uint(value_size, sizeof(struct ring_head) + 2 * (65537 + 1) + 4 * 4096);
};

/*
 * Rings by pool number. The control plane swaps whole rings in and never writes one that is in a slot; the program
 * looks a slot up once per packet and keeps the pointer. An empty slot is an empty pool.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 512);
	__type(key, __u32);
	__uint(value_size, sizeof(__u32));
	__array(values, struct ring);
} rings SEC(".maps");

/*
 * The flow table. Written by packets; the control plane clears entries by compare-and-exchange (retired numbers,
 * old age). A full bucket forgets its entry of greatest age, entries hit at least once counting an eighth.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct flow_bucket);
} flows SEC(".maps");

/* Server id (from packets: server_id.h) -> backend id. Written by the control plane, entry by entry. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 16);
	__type(key, __u32);
	__type(value, __u32);
} server_ids SEC(".maps");

/* Counters: each CPU writes its own lines, the control plane reads and adds them up; cleared by it for a new number. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 512);
	__type(key, __u32);
	__type(value, struct vip_counter);
} vip_counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct backend_counter);
} backend_counters SEC(".maps");

/* By CPU: everything that belongs to no vip and no backend. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cpu_counters);
} counters SEC(".maps");

/* What this set of maps was made with. Control plane only; never read by packets. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct meta);
} meta SEC(".maps");

/* What each ring was made of, since a ring can't be read back. Control plane only. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 512);
	__type(key, __u32);
	__type(value, struct pool_row);
} pool_rows SEC(".maps");

#endif /* MAPS_H */
