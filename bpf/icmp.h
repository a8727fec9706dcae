/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP for addresses of vips: echo requests are answered here, errors follow the flow that they quote to its backend.
 * Only the protocol number that belongs to the IP version counts as ICMP.
 */
#ifndef ICMP_H
#define ICMP_H

#include "csum.h"
#include "packet.h"
#include "parse.h"
#include "stats.h"

/* RFC 792 and RFC 4443. The uapi headers of these would pull in the C library. */
#define ICMP_ECHO_REPLY 0
#define ICMP_UNREACHABLE 3
#define ICMP_ECHO_REQUEST 8
#define ICMP_CODE_TOO_BIG 4
#define ICMPV6_UNREACHABLE 1
#define ICMPV6_TOO_BIG 2
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_ECHO_REPLY 129

struct icmp_header {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be16 unused;
	__be16 mtu; /* of "too big": IPv4 16 bits, IPv6 32 bits of which we never need the upper ones */
};

#define REPLY_TTL 64
/* The quoted transport header is at least this long (RFC 792); ports need no more. */
#define QUOTED_L4 8
#define PTB_SMALL_MTU 1280

static __always_inline void swap_macs(struct ethhdr *eth)
{
	__u8 mac[ETH_ALEN];

	__builtin_memcpy(mac, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, mac, ETH_ALEN);
}

static __always_inline int reply(enum lb_counter which, __u32 frame_bytes)
{
	count(which);
	count_by(CNT_REPLY_BYTES, frame_bytes);
	return XDP_TX;
}

/* Type 8 becomes 0: the sum loses 0x0800, so the checksum gains it, with the carry around the end. */
static __always_inline int echo_ipv4(void *data, struct iphdr *ip, struct icmp_header *icmp, __u32 frame_bytes)
{
	__u32 sum = icmp->checksum + bpf_htons(ICMP_ECHO_REQUEST << 8);
	__be32 address = ip->saddr;

	icmp->type = ICMP_ECHO_REPLY;
	icmp->checksum = (sum & 0xffff) + (sum >> 16);
	ip->saddr = ip->daddr;
	ip->daddr = address;
	ip->ttl = REPLY_TTL;
	ip->check = 0;
	ip->check = ipv4_csum(ip);
	swap_macs(data);
	return reply(CNT_ECHO_REPLY, frame_bytes);
}

/* Type 128 becomes 129: the checksum loses 0x0100, and 0 counts as 0xffff. */
static __always_inline int echo_ipv6(void *data, struct ipv6hdr *ip, struct icmp_header *icmp, __u32 frame_bytes)
{
	struct in6_addr address = ip->saddr;

	icmp->type = ICMPV6_ECHO_REPLY;
	icmp->checksum = (icmp->checksum ?: 0xffff) - bpf_htons(0x0100);
	ip->saddr = ip->daddr;
	ip->daddr = address;
	ip->hop_limit = REPLY_TTL;
	swap_macs(data);
	return reply(CNT_ECHO_REPLY, frame_bytes);
}

/*
 * Turns the quoted packet, which a backend sent from the vip, around into the flow of its client. SYN and RST of the
 * quote count as the flow's own, as in Katran; a quote of 8 bytes shows neither.
 */
static __always_inline bool parse_quote(struct packet *p, void *l4, void *end)
{
	__u32 ports;

	if (l4 + QUOTED_L4 > end)
		return false;
	ports = *(__u32 *)l4;
	p->ports = ports >> 16 | ports << 16;
	if (protocol_of(p) == IPPROTO_TCP && l4 + TCP_HEADER <= end)
		set_tcp_flags(p, *(__u8 *)(l4 + TCP_FLAGS_OFFSET));
	return true;
}

static __always_inline void swap_addresses(struct packet *p)
{
	__u64 src[2] = { p->src[0], p->src[1] };

	p->src[0] = p->dst[0];
	p->src[1] = p->dst[1];
	p->dst[0] = src[0];
	p->dst[1] = src[1];
}

static __always_inline int icmp_ipv4(struct xdp_md *ctx, struct packet *p, __u32 frame_bytes)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	struct iphdr *ip = data + ETH_HLEN, *quote;
	struct icmp_header *icmp = (void *)(ip + 1);

	if ((void *)(icmp + 1) > end)
		return drop(DROP_TRUNCATED, frame_bytes);
	if (icmp->type == ICMP_ECHO_REQUEST)
		return echo_ipv4(data, ip, icmp, frame_bytes);
	if (icmp->type != ICMP_UNREACHABLE)
		return pass(frame_bytes);

	quote = (void *)(icmp + 1);
	if ((void *)(quote + 1) > end || quote->ihl != 5 || quote->frag_off & bpf_htons(IPV4_OFFSET_MASK))
		return drop(DROP_ICMP_QUOTE, frame_bytes);
	if (icmp->code == ICMP_CODE_TOO_BIG) {
		count(CNT_ICMP_PTB_IPV4);
		if (bpf_ntohs(icmp->mtu) < PTB_SMALL_MTU)
			count(CNT_ICMP_PTB_IPV4_SMALL);
	}
	parse_ipv4_header(p, quote);
	if (protocol_of(p) != IPPROTO_TCP && protocol_of(p) != IPPROTO_UDP)
		return pass(frame_bytes);
	if (!parse_quote(p, quote + 1, end))
		return drop(DROP_ICMP_QUOTE, frame_bytes);
	swap_addresses(p);
	set_icmp_code(p, icmp->code);
	return CONTINUE;
}

static __always_inline int icmp_ipv6(struct xdp_md *ctx, struct packet *p, __u32 frame_bytes)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	struct ipv6hdr *ip = data + ETH_HLEN, *quote;
	struct icmp_header *icmp = (void *)(ip + 1);

	if ((void *)(icmp + 1) > end)
		return drop(DROP_TRUNCATED, frame_bytes);
	if (icmp->type == ICMPV6_ECHO_REQUEST)
		return echo_ipv6(data, ip, icmp, frame_bytes);
	if (icmp->type != ICMPV6_UNREACHABLE && icmp->type != ICMPV6_TOO_BIG)
		return pass(frame_bytes);

	quote = (void *)(icmp + 1);
	if ((void *)(quote + 1) > end)
		return drop(DROP_ICMP_QUOTE, frame_bytes);
	if (icmp->type == ICMPV6_TOO_BIG) {
		count(CNT_ICMP_PTB_IPV6);
		if (!icmp->unused && bpf_ntohs(icmp->mtu) < PTB_SMALL_MTU)
			count(CNT_ICMP_PTB_IPV6_SMALL);
	}
	parse_ipv6_header(p, quote);
	if (protocol_of(p) == IPPROTO_FRAGMENT)
		return drop(DROP_ICMP_QUOTE, frame_bytes);
	if (protocol_of(p) != IPPROTO_TCP && protocol_of(p) != IPPROTO_UDP)
		return pass(frame_bytes);
	if (!parse_quote(p, quote + 1, end))
		return drop(DROP_ICMP_QUOTE, frame_bytes);
	swap_addresses(p);
	set_icmp_code(p, icmp->code);
	return CONTINUE;
}

#endif /* ICMP_H */
