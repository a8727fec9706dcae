/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets whose ports the common parser could not read: ICMP, options, fragments, truncated headers, other protocols.
 * Only addresses of vips are ours to judge; everything else is the host's and passes. Global functions, verified once:
 * they get no packet pointers, so callers load data and data_end again.
 */
#ifndef UNPARSED_H
#define UNPARSED_H

#include "icmp.h"
#include "parse.h"
#include "stats.h"
#include "vip.h"

/* A verdict, or CONTINUE with the flow that an ICMP error quotes in *p. */
__noinline int unparsed_ipv4(struct xdp_md *ctx, struct packet *p)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	__u32 frame_bytes = bpf_xdp_get_buff_len(ctx);
	struct iphdr *ip = data + ETH_HLEN;

	/* An address that can't be read is nobody's vip. */
	if (!p || (void *)(ip + 1) > end)
		return pass(frame_bytes);
	parse_ipv4_header(p, ip);
	if (!is_vip_address(p->dst, false))
		return pass(frame_bytes);
	if (ip->ihl != 5)
		return drop(ip->ihl > 5 ? DROP_IP_OPTIONS : DROP_TRUNCATED, frame_bytes);
	if (ip->frag_off & bpf_htons(IPV4_FRAGMENT_MASK))
		return drop(DROP_FRAGMENT, frame_bytes);
	if (protocol_of(p) == IPPROTO_ICMP)
		return icmp_ipv4(ctx, p, frame_bytes);
	if (protocol_of(p) == IPPROTO_TCP || protocol_of(p) == IPPROTO_UDP)
		return drop(DROP_TRUNCATED, frame_bytes);
	return pass(frame_bytes);
}

__noinline int unparsed_ipv6(struct xdp_md *ctx, struct packet *p)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	__u32 frame_bytes = bpf_xdp_get_buff_len(ctx);
	struct ipv6hdr *ip = data + ETH_HLEN;

	if (!p || (void *)(ip + 1) > end)
		return pass(frame_bytes);
	parse_ipv6_header(p, ip);
	if (!is_vip_address(p->dst, true))
		return pass(frame_bytes);
	if (protocol_of(p) == IPPROTO_FRAGMENT)
		return drop(DROP_FRAGMENT, frame_bytes);
	if (protocol_of(p) == IPPROTO_ICMPV6)
		return icmp_ipv6(ctx, p, frame_bytes);
	if (protocol_of(p) == IPPROTO_TCP || protocol_of(p) == IPPROTO_UDP)
		return drop(DROP_TRUNCATED, frame_bytes);
	return pass(frame_bytes);
}

#endif /* UNPARSED_H */
