/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Outer headers, with Katran's bytes: IPIP, IP6IP6 and IPv4 in IPv6. The outer source carries bits of the client's
 * address and port, so that routers and receive queues behind us spread the flows. Headers are written as whole
 * 8-byte words, counted from the start of the frame.
 */
#ifndef ENCAP_H
#define ENCAP_H

#include "csum.h"
#include "packet.h"
#include "stats.h"

#define OUTER_TTL 64
#define LINK_MAC_MASK 0xffffffffffffull
#define LINK_FLAGS(link) ((__u8)((link) >> 48))
#define LINK_STATE(link) ((__u8)((link) >> 56))

/* What the outer header takes from the packet. */
struct outer {
	__u64 ethernet; /* the first 8 bytes of the frame as received: our own MAC, then two bytes of the router's */
	__u32 client; /* last 4 bytes of the client's address, 0 for a vip that hashes its destination port only */
	__u16 port; /* of the client; 0 for a vip that hashes no source port */
	__u8 tos;
	__u16 ip_bytes;
};

/* Words 0 and 1 of the frame: to the gateway, from us, Ethernet type, and the first two bytes of the IP header. */
static __always_inline void write_ethernet(__u64 *frame, __u64 link, __u64 ethernet, __u16 type, __u16 ip_start)
{
	frame[0] = (link & LINK_MAC_MASK) | ethernet << 48;
	frame[1] = (__u32)(ethernet >> 16) | (__u64)type << 32 | (__u64)ip_start << 48;
}

/*
 * | 45 tos | length, id 0, no fragment, ttl 64, protocol 4 | checksum, 172.16.x.y, dst | dst |
 * with x.y = the client's last two address bytes XOR its port, the port's bytes swapped.
 */
static __always_inline int encap_ipv4(
	struct xdp_md *ctx, const struct backend *b, __u64 link, const struct outer *o, __u32 frame_bytes)
{
	__u16 length = bpf_htons(o->ip_bytes + sizeof(struct iphdr));
	__u16 start = 0x45 | (__u16)o->tos << 8;
	__u16 source = o->client >> 16 ^ bpf_htons(o->port);
	__u32 sum = b->csum4 + ((__u32)o->tos << 8) + length + source;
	__u32 dst = b->dst4;
	__u64 *frame;

	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct iphdr)))
		return drop(DROP_HEADROOM_IPV4, frame_bytes);
	frame = data_of(ctx);
	if ((void *)frame + ETH_HLEN + sizeof(struct iphdr) > end_of(ctx))
		return drop(DROP_HEADROOM_IPV4, frame_bytes);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	write_ethernet(frame, link, o->ethernet, bpf_htons(ETH_P_IP), start);
	frame[2] = length | (__u64)OUTER_TTL << 48 | (__u64)IPPROTO_IPIP << 56;
	frame[3] = (__u16)~sum | 0x10acull << 16 | (__u64)source << 32 | (__u64)(__u16)dst << 48;
	*(__u16 *)(frame + 4) = dst >> 16;
	return XDP_TX;
}

/*
 * | version, class | flow 0, length, next header, hop limit 64, 0100:: | client XOR port | dst |
 */
static __always_inline int encap_ipv6(struct xdp_md *ctx, const struct backend *b, __u64 link, const struct outer *o,
	__u32 frame_bytes, const bool v6)
{
	__u16 length = bpf_htons(v6 ? o->ip_bytes + sizeof(struct ipv6hdr) : o->ip_bytes);
	__u8 next = v6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
	__u16 start = 0x60 | o->tos >> 4 | (__u16)(o->tos & 0xf) << 12;
	__u64 dst[2] = { *(const __u64 *)&b->dst6[0], *(const __u64 *)&b->dst6[2] };
	void *frame;

	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct ipv6hdr)))
		return drop(DROP_HEADROOM_IPV6, frame_bytes);
	frame = data_of(ctx);
	if (frame + ETH_HLEN + sizeof(struct ipv6hdr) > end_of(ctx))
		return drop(DROP_HEADROOM_IPV6, frame_bytes);
	write_ethernet(frame, link, o->ethernet, bpf_htons(ETH_P_IPV6), start);
	*(__u64 *)(frame + 16) = (__u64)length << 16 | (__u64)next << 32 | (__u64)OUTER_TTL << 40 | 0x01ull << 48;
	*(__u64 *)(frame + 24) = 0;
	*(__u16 *)(frame + 32) = 0;
	*(__u32 *)(frame + 34) = o->client ^ o->port;
	*(__u64 *)(frame + 38) = dst[0];
	*(__u64 *)(frame + 46) = dst[1];
	return XDP_TX;
}

/* Wraps the packet for its backend and sends it back out of the interface that it came in on. */
static __always_inline int encapsulate(struct xdp_md *ctx, const struct backend *b, __u64 link, const struct outer *o,
	__u32 frame_bytes, const bool v6)
{
	if (v6 || unlikely(LINK_FLAGS(link) & BACKEND_IPV6))
		return encap_ipv6(ctx, b, link, o, frame_bytes, v6);
	return encap_ipv4(ctx, b, link, o, frame_bytes);
}

#endif /* ENCAP_H */
