/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Internet checksums (RFC 1071), in the byte order of the packet: one's complement sums do not care about it. */
#ifndef CSUM_H
#define CSUM_H

#include "packet.h"

static __always_inline __u16 csum_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* The sum of a header without options whose check field is 0. */
static __always_inline __u16 ipv4_csum(const struct iphdr *ip)
{
	const __u32 *words = (const void *)ip;

	return csum_fold((__u64)words[0] + words[1] + words[2] + words[3] + words[4]);
}

#endif /* CSUM_H */
