/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * "Is this packet for a vip, and which?" Two tables of 64-byte buckets, one live; see lb_abi.h for keys and hashing.
 * A lookup touches one line, a miss two (exact port, then port 0).
 */
#ifndef VIP_H
#define VIP_H

#include "config.h"
#include "maps.h"
#include "packet.h"

struct vip {
	__u16 number;
	__u16 pool;
	__u32 flags;
};

/* The live table: its seeds, and its first bucket. */
static __always_inline const struct vip_seed *vip_table(__u32 *base)
{
	__u32 zero = 0, active;
	struct control *c = bpf_map_lookup_elem(&control, &zero);

	if (unlikely(!c))
		return NULL;
	active = READ_ONCE(c->active_vips) & 1;
	*base = active << config.vip_bits;
	return &c->vip_seed[active];
}

static __always_inline bool vip4_probe(struct vip *vip, const struct vip_seed *seed, __u32 base, __u64 key)
{
	__u32 index = base + (__u32)(key * seed->seed4 >> (64 - config.vip_bits));
	struct vip4_bucket *b = bpf_map_lookup_elem(&vips4, &index);

	if (unlikely(!b))
		return false;
#pragma unroll
	for (int i = 0; i < VIP4_WAYS; i++) {
		const struct vip4_entry *e = &b->entry[i];

		if (*(const __u64 *)e != key)
			continue;
		vip->number = e->vip;
		vip->pool = e->pool;
		vip->flags = e->flags;
		return true;
	}
	return false;
}

static __always_inline bool vip6_probe(
	struct vip *vip, const struct vip_seed *seed, __u32 base, const __u64 *address, __u32 rest)
{
	__u64 hash = address[0] * seed->seed6[0] + address[1] * seed->seed6[1] + rest * seed->seed6[2];
	__u32 index = base + (__u32)(hash >> (64 - config.vip_bits));
	struct vip6_bucket *b = bpf_map_lookup_elem(&vips6, &index);

	if (unlikely(!b))
		return false;
#pragma unroll
	for (int i = 0; i < VIP6_WAYS; i++) {
		const struct vip6_entry *e = &b->entry[i];
		const __u64 *words = (const void *)e;

		if (words[0] != address[0] || words[1] != address[1] || *(const __u32 *)(words + 2) != rest)
			continue;
		vip->number = e->vip;
		vip->pool = e->pool;
		vip->flags = e->flags;
		return true;
	}
	return false;
}

/* Port, protocol and kind of a vip key, as the last word of an IPv6 key and the upper half of an IPv4 key. */
static __always_inline __u32 vip_key_rest(__u16 port, __u8 protocol, __u8 kind)
{
	return port | (__u32)protocol << 16 | (__u32)kind << 24;
}

static __always_inline bool vip_probe(
	struct vip *vip, const struct vip_seed *seed, __u32 base, const __u64 *address, __u32 rest, const bool v6)
{
	return v6 ? vip6_probe(vip, seed, base, address, rest)
		  : vip4_probe(vip, seed, base, (__u32)address[0] | (__u64)rest << 32);
}

/* The vip of a packet; the exact port is preferred. A port-0 match clears the packet's destination port (see lb_abi.h). */
static __always_inline bool find_vip(struct vip *vip, struct packet *p, const bool v6)
{
	const struct vip_seed *seed;
	__u32 base;

	seed = vip_table(&base);
	if (unlikely(!seed))
		return false;
	if (likely(vip_probe(vip, seed, base, p->dst, vip_key_rest(dest_port(p), p->protocol, VIP_KIND_VIP), v6)))
		return true;
	if (!vip_probe(vip, seed, base, p->dst, vip_key_rest(0, p->protocol, VIP_KIND_VIP), v6))
		return false;
	if (!(vip->flags & (VIP_HASH_DEST_PORT_ONLY | VIP_HASH_SOURCE_DEST_PORT)))
		p->ports = source_port(p);
	return true;
}

/* Whether some vip has this address. */
static __always_inline bool is_vip_address(const __u64 *address, const bool v6)
{
	const struct vip_seed *seed;
	struct vip unused;
	__u32 base;

	seed = vip_table(&base);
	return seed && vip_probe(&unused, seed, base, address, vip_key_rest(0, 0, VIP_KIND_ADDRESS), v6);
}

#endif /* VIP_H */
