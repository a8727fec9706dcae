/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tunnels that end at the balancer itself (`datapath.decap`): the outer header of IPIP or GUE is taken off before vips
 * are looked up. To one of `destinations` the inner packet is then balanced, to one of `egress_destinations` sent back to
 * the router, else left to the host. Once a packet, and the inner TTL goes down by one: no loop through us outlives it.
 */
#ifndef INLINE_DECAP_H
#define INLINE_DECAP_H

#include "icmp.h"
#include "packet.h"
#include "parse.h"
#include "stats.h"

/* What becomes of a tunnel packet. */
enum tunnel_fate {
	TUNNEL_FOREIGN, /* not ours: untouched */
	TUNNEL_PASS,
	TUNNEL_BALANCE,
	TUNNEL_EGRESS,
};

struct tunnel {
	__u64 dst[2]; /* outer destination, IPv4 as ::ffff:a.b.c.d */
	int header; /* bytes to take off */
	bool v6; /* the outer header's family */
	bool gue;
	bool inner_v6;
};

static __always_inline bool is_listed(const volatile __u64 *list, const struct tunnel *t)
{
	int i;

	for (i = 0; i < 2 * DECAP_DESTINATIONS; i += 2)
		if (list[i + 1] && list[i] == t->dst[0] && list[i + 1] == t->dst[1])
			return true;
	return false;
}

/* True for encap_source, the one address of this host that the program knows. */
static __always_inline bool is_own(const struct tunnel *t)
{
	const volatile __u32 *own6 = (const volatile __u32 *)config.gue_source6;

	if (!t->v6)
		return config.gue_source4 && t->dst[1] >> 32 == config.gue_source4;
	return t->dst[0] == (own6[0] | (__u64)own6[1] << 32) && t->dst[1] == (own6[2] | (__u64)own6[3] << 32);
}

static __always_inline enum tunnel_fate fate_of(const struct tunnel *t)
{
	if (is_listed(config.decap_egress, t))
		/* Katran's egress is for GUE alone; IPIP to the same address is balanced. */
		return t->gue ? TUNNEL_EGRESS : TUNNEL_BALANCE;
	if (is_listed(config.decap_destinations, t))
		return TUNNEL_BALANCE;
	return config.decap & DECAP_STRICT && !is_own(t) ? TUNNEL_FOREIGN : TUNNEL_PASS;
}

/* What lies behind the outer IP header. False: no tunnel of a kind that is on. */
static __always_inline bool parse_tunnel(struct tunnel *t, void *l4, void *end, __u8 protocol)
{
	if (config.decap & DECAP_IPIP && (protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6)) {
		t->inner_v6 = protocol == IPPROTO_IPV6;
		return true;
	}
	if (!(config.decap & DECAP_GUE) || protocol != IPPROTO_UDP || l4 + UDP_HEADER + 1 > end)
		return false;
	if (((__be16 *)l4)[1] != config.gue_port)
		return false;
	t->gue = true;
	t->header += UDP_HEADER;
	/* Variant 1 begins with the inner IP version; anything else is GUE of another kind. */
	t->inner_v6 = *(__u8 *)(l4 + UDP_HEADER) >> 4 == 6;
	return t->inner_v6 || *(__u8 *)(l4 + UDP_HEADER) >> 4 == 4;
}

static __always_inline bool find_tunnel(struct tunnel *t, void *data, void *end)
{
	__be16 type;

	if (data + ETH_HLEN > end)
		return false;
	type = *(__be16 *)(data + ETH_HLEN - sizeof(type));
	if (type == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = data + ETH_HLEN;

		if ((void *)(ip + 1) > end || ip->ihl != 5 || ip->frag_off & bpf_htons(IPV4_FRAGMENT_MASK))
			return false;
		t->dst[1] = bpf_htonl(0xffff) | (__u64)ip->daddr << 32;
		t->header = sizeof(*ip);
		return parse_tunnel(t, ip + 1, end, ip->protocol);
	}
	if (type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = data + ETH_HLEN;
		const __u64 *dst = (const void *)&ip->daddr;

		if ((void *)(ip + 1) > end)
			return false;
		t->dst[0] = dst[0];
		t->dst[1] = dst[1];
		t->v6 = true;
		t->header = sizeof(*ip);
		return parse_tunnel(t, ip + 1, end, ip->nexthdr);
	}
	return false;
}

/* True if the inner packet may go on: its TTL was above 1. The IPv4 checksum follows it (RFC 1141). */
static __always_inline bool count_hop(void *inner, bool v6)
{
	struct iphdr *ip = inner;
	__u32 sum;

	if (v6)
		return ((struct ipv6hdr *)inner)->hop_limit > 1 && --((struct ipv6hdr *)inner)->hop_limit;
	sum = ip->check + bpf_htons(0x0100);
	ip->check = sum + (sum >> 16);
	return ip->ttl > 1 && --ip->ttl;
}

/* Takes `header` bytes out from behind the Ethernet header; false if the driver refuses. */
static __always_inline bool take_off(struct xdp_md *ctx, int header, __be16 type)
{
	void *data = data_of(ctx);
	__u64 macs;
	__u32 source;

	if (data + ETH_HLEN > end_of(ctx))
		return false;
	macs = *(__u64 *)data;
	source = *(__u32 *)(data + 8);
	if (bpf_xdp_adjust_head(ctx, header))
		return false;
	data = data_of(ctx);
	if (data + ETH_HLEN > end_of(ctx))
		return false;
	*(__u64 *)data = macs;
	*(__u32 *)(data + 8) = source;
	*(__be16 *)(data + 12) = type;
	return true;
}

/* A verdict, or CONTINUE: what is in the frame now is to be balanced. */
__noinline int decapsulate(struct xdp_md *ctx)
{
	__u32 frame_bytes = bpf_xdp_get_buff_len(ctx);
	struct tunnel t = {};
	enum tunnel_fate fate;
	int inner_bytes;
	void *data;

	if (!find_tunnel(&t, data_of(ctx), end_of(ctx)))
		return CONTINUE;
	fate = fate_of(&t);
	inner_bytes = t.inner_v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	if (fate == TUNNEL_FOREIGN) {
		/* Untouched, and never balanced: it may be meant for a namespace or a guest of this host. */
		count(CNT_DECAP_FOREIGN);
		return pass(frame_bytes);
	}
	if (frame_bytes < ETH_HLEN + t.header + inner_bytes)
		return drop(DROP_TRUNCATED, frame_bytes);
	if (!take_off(ctx, t.header, t.inner_v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP)))
		return drop(DROP_TRUNCATED, frame_bytes);
	count(t.inner_v6 ? CNT_DECAP_IPV6 : CNT_DECAP_IPV4);
	data = data_of(ctx);
	if (data + ETH_HLEN + sizeof(struct ipv6hdr) > end_of(ctx)) {
		/* An IPv4 packet without payload beyond its header is shorter than an IPv6 header. */
		if (t.inner_v6 || data + ETH_HLEN + sizeof(struct iphdr) > end_of(ctx))
			return drop(DROP_TRUNCATED, frame_bytes);
		if (!count_hop(data + ETH_HLEN, false))
			return drop(DROP_DECAP_TTL, frame_bytes);
	} else if (!count_hop(data + ETH_HLEN, t.inner_v6)) {
		return drop(DROP_DECAP_TTL, frame_bytes);
	}
	if (fate == TUNNEL_BALANCE) {
		count(CNT_DECAP_BALANCED);
		return CONTINUE;
	}
	if (fate == TUNNEL_PASS)
		return pass(frame_bytes);
	data = data_of(ctx);
	if (data + ETH_HLEN > end_of(ctx))
		return drop(DROP_TRUNCATED, frame_bytes);
	swap_macs(data);
	count(CNT_DECAP_EGRESS);
	return XDP_TX;
}

#endif /* INLINE_DECAP_H */
