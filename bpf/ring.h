/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The ring position of a flow, and the backend there. Position = Katran's: Bob Jenkins' public-domain lookup3 mixing
 * (burtleburtle.net/bob/c/lookup3.c, as the Linux jhash uses it) of source address and ports, modulo the ring size.
 */
#ifndef RING_H
#define RING_H

#include "config.h"
#include "maps.h"
#include "packet.h"

#define JENKINS_START 0xdeadbeefu
#define FERMAT_PRIME 65537u

static __always_inline __u32 rotate(__u32 word, __u32 by)
{
	return word << by | word >> (32 - by);
}

/* lookup3's final(). */
static __always_inline __u32 jenkins_final(__u32 a, __u32 b, __u32 c)
{
	c = (c ^ b) - rotate(b, 14);
	a = (a ^ c) - rotate(c, 11);
	b = (b ^ a) - rotate(a, 25);
	c = (c ^ b) - rotate(b, 16);
	a = (a ^ c) - rotate(c, 4);
	b = (b ^ a) - rotate(a, 14);
	return (c ^ b) - rotate(b, 24);
}

static __always_inline __u32 jenkins_two_words(__u32 a, __u32 b, __u32 seed)
{
	__u32 start = JENKINS_START + 8 + seed;

	return jenkins_final(a + start, b + start, start);
}

/* 16 bytes: one mix() of the first three words, then final() with the fourth. */
static __always_inline __u32 jenkins_address(const __u64 *address, __u32 seed)
{
	__u32 start = JENKINS_START + 16 + seed;
	__u32 a = start + (__u32)address[0], b = start + (address[0] >> 32), c = start + (__u32)address[1];

	a = (a - c) ^ rotate(c, 4);
	c += b;
	b = (b - a) ^ rotate(a, 6);
	a += c;
	c = (c - b) ^ rotate(b, 8);
	b += a;
	a = (a - c) ^ rotate(c, 16);
	c += b;
	b = (b - a) ^ rotate(a, 19);
	a += c;
	c = (c - b) ^ rotate(b, 4);
	b += a;
	return jenkins_final(a + (__u32)(address[1] >> 32), b, c);
}

static __always_inline __u32 ring_hash(const __u64 *source, __u32 ports, const bool v6)
{
	__u32 address = v6 ? jenkins_address(source, config.hash_seed6) : (__u32)source[0];

	return jenkins_two_words(address, ports, config.hash_seed);
}

/* hash % ring_size. 2^16 = -1 modulo 65537, so there the halves subtract and no division is needed. */
static __always_inline __u32 ring_position(__u32 hash)
{
	__s32 difference;

	if (config.ring_size != FERMAT_PRIME)
		return hash % config.ring_size;
	difference = (__s32)(hash & 0xffff) - (__s32)(hash >> 16);
	return difference < 0 ? difference + FERMAT_PRIME : difference;
}

/*
 * The backend id at a position; 0 and a reason if there is none. The outer slot is looked up once, and ranks and ids
 * come through the same pointer: a swap is seen whole or not at all.
 */
static __always_inline __u32 ring_backend(__u32 pool, __u32 position, enum lb_drop *reason)
{
	__u32 zero = 0, rank;
	void *slot, *ring;

	*reason = DROP_POOL_EMPTY;
	slot = bpf_map_lookup_elem(&rings, &pool);
	if (!slot)
		return 0;
	ring = bpf_map_lookup_elem(slot, &zero);
	if (!ring || ((struct ring_head *)ring)->n == 0)
		return 0;

	*reason = DROP_RING_INVALID;
	HIDE(position);
	if (position >= config.ring_size)
		return 0;
	rank = *(__u16 *)(ring + sizeof(struct ring_head) + 2 * position);
	/* Behind the last id there are zeros. */
	if (rank >= config.max_backends_per_pool)
		return 0;
	return *(__u32 *)(ring + sizeof(struct ring_head) + 2 * (config.ring_size + 1) + 4 * rank);
}

#endif /* RING_H */
