/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Frames for a vip that are longer than max_frame: dropped, or answered with "too big" that quotes as much as Katran
 * quotes. Errors are never answered with errors (RFC 1122 3.2.2).
 */
#ifndef TOO_BIG_H
#define TOO_BIG_H

#include "csum.h"
#include "icmp.h"
#include "packet.h"
#include "stats.h"

/* What is quoted of the datagram: IPv4 header and 64 bytes; IPv6 header and 208 bytes. */
#define QUOTE_IPV4 84
#define QUOTE_IPV6 248

/* Cuts the frame down to `keep` bytes and puts `header` bytes before it. */
static __always_inline bool make_room(struct xdp_md *ctx, int keep, int header, __u32 frame_bytes)
{
	return !bpf_xdp_adjust_tail(ctx, keep - (int)frame_bytes) && !bpf_xdp_adjust_head(ctx, -header);
}

static __always_inline void answer_ethernet(struct ethhdr *answer, const struct ethhdr *asked)
{
	__builtin_memcpy(answer->h_dest, asked->h_source, ETH_ALEN);
	__builtin_memcpy(answer->h_source, asked->h_dest, ETH_ALEN);
	answer->h_proto = asked->h_proto;
}

__noinline int too_big_ipv4(struct xdp_md *ctx)
{
	const int header = sizeof(struct iphdr) + sizeof(struct icmp_header);
	__u32 frame_bytes = bpf_xdp_get_buff_len(ctx);
	struct iphdr *ip, *asked;
	struct icmp_header *icmp;
	void *data;

	if (!make_room(ctx, ETH_HLEN + QUOTE_IPV4, header, frame_bytes))
		return drop(DROP_REPLY_HEADROOM, frame_bytes);
	data = data_of(ctx);
	if (data + ETH_HLEN + header + QUOTE_IPV4 > end_of(ctx))
		return drop(DROP_REPLY_HEADROOM, frame_bytes);
	ip = data + ETH_HLEN;
	icmp = (void *)(ip + 1);
	asked = (void *)(icmp + 1);
	answer_ethernet(data, data + header);
	*ip = (struct iphdr){
		.version = 4,
		.ihl = 5,
		.tot_len = bpf_htons(header + QUOTE_IPV4),
		.ttl = REPLY_TTL,
		.protocol = IPPROTO_ICMP,
		.saddr = asked->daddr,
		.daddr = asked->saddr,
	};
	ip->check = ipv4_csum(ip);
	*icmp = (struct icmp_header){
		.type = ICMP_UNREACHABLE,
		.code = ICMP_CODE_TOO_BIG,
		.mtu = bpf_htons(config.max_frame - ETH_HLEN),
	};
	icmp->checksum = csum_fold(bpf_csum_diff(NULL, 0, (void *)icmp, sizeof(*icmp) + QUOTE_IPV4, 0));
	return reply(CNT_TOO_BIG_IPV4, frame_bytes);
}

__noinline int too_big_ipv6(struct xdp_md *ctx)
{
	const int header = sizeof(struct ipv6hdr) + sizeof(struct icmp_header);
	const int message = sizeof(struct icmp_header) + QUOTE_IPV6;
	__u32 frame_bytes = bpf_xdp_get_buff_len(ctx);
	struct ipv6hdr *ip, *asked;
	struct icmp_header *icmp;
	__u64 pseudo;
	void *data;

	if (!make_room(ctx, ETH_HLEN + QUOTE_IPV6, header, frame_bytes))
		return drop(DROP_REPLY_HEADROOM, frame_bytes);
	data = data_of(ctx);
	if (data + ETH_HLEN + header + QUOTE_IPV6 > end_of(ctx))
		return drop(DROP_REPLY_HEADROOM, frame_bytes);
	ip = data + ETH_HLEN;
	icmp = (void *)(ip + 1);
	asked = (void *)(icmp + 1);
	answer_ethernet(data, data + header);
	*ip = (struct ipv6hdr){
		.version = 6,
		.payload_len = bpf_htons(message),
		.nexthdr = IPPROTO_ICMPV6,
		.hop_limit = REPLY_TTL,
		.saddr = asked->daddr,
		.daddr = asked->saddr,
	};
	*icmp = (struct icmp_header){
		.type = ICMPV6_TOO_BIG,
		.mtu = bpf_htons(config.max_frame - ETH_HLEN),
	};
	/* RFC 8200 8.1: addresses, length and next header precede the message in the sum. */
	pseudo = bpf_csum_diff(NULL, 0, (void *)&ip->saddr, 2 * sizeof(struct in6_addr), 0);
	pseudo += bpf_htons(message) + bpf_htons(IPPROTO_ICMPV6);
	icmp->checksum = csum_fold(pseudo + bpf_csum_diff(NULL, 0, (void *)icmp, message, 0));
	return reply(CNT_TOO_BIG_IPV6, frame_bytes);
}

static __always_inline int too_big(struct xdp_md *ctx, const struct packet *p, __u32 frame_bytes, const bool v6)
{
	if (config.too_big != TOO_BIG_ICMP || icmp_of(p))
		return drop(DROP_TOO_BIG, frame_bytes);
	return v6 ? too_big_ipv6(ctx) : too_big_ipv4(ctx);
}

#endif /* TOO_BIG_H */
