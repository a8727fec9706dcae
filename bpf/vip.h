/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * "Is this packet for a vip, and which?" Two tables of 64-byte buckets, one live; see lb_abi.h for keys and hashing.
 * A lookup touches one line, a miss two (exact port, then port 0). Vips that are prefixes are in a trie.
 */
#ifndef VIP_H
#define VIP_H

#include "config.h"
#include "maps.h"
#include "packet.h"

/* The upper half of an entry, in one word: number 16 | pool 16 | flags 32. */
struct vip {
	__u64 word;
};

static __always_inline __u16 vip_number(const struct vip *vip)
{
	return vip->word;
}

static __always_inline __u16 vip_pool(const struct vip *vip)
{
	return vip->word >> 16;
}

static __always_inline __u32 vip_flags(const struct vip *vip)
{
	return vip->word >> 32;
}

/* The table that is live. */
struct vip_table {
	const struct vip_seed *seed;
	__u32 base; /* its first bucket */
	__u32 bits; /* log2 of its buckets */
};

static __always_inline bool live_vips(struct vip_table *t)
{
	__u32 zero = 0, active, bits = config.vip_bits;
	struct control *c = bpf_map_lookup_elem(&control, &zero);

	if (unlikely(!c))
		return false;
	active = READ_ONCE(c->active_vips) & 1;
	t->seed = &c->vip_seed[active];
	t->base = active << bits;
	t->bits = bits;
	return true;
}

/* The bucket of a hash: its group, above, has moved it. The group needs no part in the sum's upper bits. */
static __always_inline __u32 vip_bucket(const struct vip_table *t, __u64 hash, const __u16 *moves)
{
	__u32 start = hash >> (64 - VIP_GROUP_BITS - t->bits);

	return t->base + ((start + moves[hash >> (64 - VIP_GROUP_BITS)]) & ((1u << t->bits) - 1));
}

static __always_inline bool vip4_probe(struct vip *vip, const struct vip_table *t, __u64 key)
{
	__u32 index = vip_bucket(t, key * t->seed->seed4, t->seed->move4);
	struct vip4_bucket *b = bpf_map_lookup_elem(&vips4, &index);

	if (unlikely(!b))
		return false;
#pragma unroll
	for (int i = 0; i < VIP4_WAYS; i++) {
		const struct vip4_entry *e = &b->entry[i];

		if (*(const __u64 *)e != key)
			continue;
		vip->word = *(const __u64 *)&e->vip;
		return true;
	}
	return false;
}

static __always_inline bool vip6_probe(struct vip *vip, const struct vip_table *t, const __u64 *address, __u32 rest)
{
	const __u64 *seed = t->seed->seed6;
	__u64 hash = address[0] * seed[0] + address[1] * seed[1] + rest * seed[2];
	__u32 index = vip_bucket(t, hash, t->seed->move6);
	struct vip6_bucket *b = bpf_map_lookup_elem(&vips6, &index);

	if (unlikely(!b))
		return false;
#pragma unroll
	for (int i = 0; i < VIP6_WAYS; i++) {
		const struct vip6_entry *e = &b->entry[i];
		const __u64 *words = (const void *)e;

		if (words[0] != address[0] || words[1] != address[1] || *(const __u32 *)(words + 2) != rest)
			continue;
		vip->word = *(const __u64 *)&e->vip;
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
	struct vip *vip, const struct vip_table *t, const __u64 *address, __u32 rest, const bool v6)
{
	return v6 ? vip6_probe(vip, t, address, rest) : vip4_probe(vip, t, address[0] | (__u64)rest << 32);
}

/* The vip of the longest prefix that holds the address. `rest` is that of an address vip. */
static __always_inline bool vip_prefix_probe(struct vip *vip, const __u64 *address, __u32 rest, const bool v6)
{
	struct vip_prefix_key key = { .length = VIP_PREFIX_HEAD + (v6 ? 128 : 32) };
	struct vip_prefix *found;

	key.port = rest;
	key.protocol = rest >> 16;
	key.kind = rest >> 24 | (v6 ? VIP_KIND_IPV6 : 0);
	key.address[0] = address[0];
	if (v6) {
		key.address[1] = address[0] >> 32;
		key.address[2] = address[1];
		key.address[3] = address[1] >> 32;
	}
	found = bpf_map_lookup_elem(&vip_prefixes, &key);
	if (!found)
		return false;
	vip->word = *(const __u64 *)found;
	return true;
}

/* A vip that is an address, else, if there are any, one that is a prefix. Sets *is_prefix for the latter. */
static __always_inline bool vip_probe_both(struct vip *vip, const struct vip_table *t, const struct packet *p, __u16 port,
	bool *is_prefix, const bool v6)
{
	__u32 rest = vip_key_rest(port, protocol_of(p), VIP_KIND_VIP);

	if (likely(vip_probe(vip, t, p->dst, rest, v6)))
		return true;
	if (!config.prefix_vips || !vip_prefix_probe(vip, p->dst, rest, v6))
		return false;
	*is_prefix = true;
	return true;
}

/*
 * The vip of a packet: an exact port wins over port 0, and for each an address over a prefix. A match of port 0 clears
 * the packet's destination port (see lb_abi.h), and so does every prefix, also with a port of its own: Katran's choice.
 */
static __always_inline bool find_vip(struct vip *vip, struct packet *p, const bool v6)
{
	bool is_prefix = false;
	struct vip_table live;

	if (unlikely(!live_vips(&live)))
		return false;
	if (likely(vip_probe_both(vip, &live, p, dest_port(p), &is_prefix, v6))) {
		if (likely(!is_prefix))
			return true;
	} else if (!vip_probe_both(vip, &live, p, 0, &is_prefix, v6)) {
		return false;
	}
	if (!(vip_flags(vip) & (VIP_HASH_DEST_PORT_ONLY | VIP_HASH_SOURCE_DEST_PORT)))
		p->ports = source_port(p);
	return true;
}

/* Whether some vip has this address. */
static __always_inline bool is_vip_address(const __u64 *address, const bool v6)
{
	__u32 rest = vip_key_rest(0, 0, VIP_KIND_ADDRESS);
	struct vip_table live;
	struct vip unused;

	if (!live_vips(&live))
		return false;
	return vip_probe(&unused, &live, address, rest, v6) ||
	       (config.prefix_vips && vip_prefix_probe(&unused, address, rest, v6));
}

#endif /* VIP_H */
