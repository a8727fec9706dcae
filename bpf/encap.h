/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Outer headers, with Katran's bytes: IPIP, IP6IP6 and IPv4 in IPv6. The outer source carries bits of the client's
 * address and port, so that routers and receive queues behind us spread the flows. Once the head has moved, the frame
 * as received lies behind the new header; what is copied from it is read there, before the header is written over
 * its start in whole 8-byte words, counted from the start of the frame.
 */
#ifndef ENCAP_H
#define ENCAP_H

#include "backend.h"
#include "csum.h"
#include "packet.h"
#include "stats.h"
#include "vip.h"

#define OUTER_TTL 64

/* What of the packet is needed when its head has moved. */
struct outer {
	/*
	 * Last 4 bytes of the client's address, 0 for a vip that hashes its destination port only | the client's port,
	 * 0 for a vip that hashes no source port << 32
	 */
	__u64 client;
	__u32 kind; /* of struct packet */
	struct vip vip;
};

static __always_inline __u32 client_address(const struct outer *o)
{
	return o->client;
}

static __always_inline __u16 client_port(const struct outer *o)
{
	return o->client >> 32;
}

/* Words 0 and 1 of the frame: to the gateway, from us, Ethernet type, and the first two bytes of the IP header. */
static __always_inline void write_ethernet(__u64 *frame, __u64 link, __u64 received, __u16 type, __u16 ip_start)
{
	frame[0] = (link & LINK_MAC_MASK) | received << 48;
	frame[1] = (__u32)(received >> 16) | (__u64)type << 32 | (__u64)ip_start << 48;
}

static __always_inline bool count_sent(const struct choice *c, const struct outer *o, __u16 ip_bytes, __u32 frame_bytes)
{
	return count_packet(vip_number(&o->vip), c->id, ip_bytes, frame_bytes, c->from_ring, o->kind);
}

/*
 * | 45 tos | length, id 0, no fragment, ttl 64, protocol 4 | checksum, 172.16.x.y, dst | dst |
 * with x.y = the client's last two address bytes XOR its port, the port's bytes swapped.
 */
static __always_inline int encap_ipv4(
	struct xdp_md *ctx, const struct choice *c, const struct outer *o, __u32 frame_bytes)
{
	__u16 start, length, ip_bytes, source = client_address(o) >> 16 ^ bpf_htons(client_port(o));
	struct iphdr *inner;
	__u64 *frame;
	__u32 sum, dst;

	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct iphdr)))
		return drop(DROP_HEADROOM_IPV4, frame_bytes);
	frame = data_of(ctx);
	inner = (void *)frame + sizeof(struct iphdr) + ETH_HLEN;
	if ((void *)(inner + 1) > end_of(ctx))
		return drop(DROP_HEADROOM_IPV4, frame_bytes);
	start = *(__u16 *)inner & 0xff00;
	ip_bytes = bpf_ntohs(inner->tot_len);
	length = bpf_htons(ip_bytes + sizeof(struct iphdr));
	dst = c->backend->dst4;
	sum = c->backend->csum4 + start + length + source;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	write_ethernet(
		frame, c->link, *(__u64 *)((void *)frame + sizeof(struct iphdr)), bpf_htons(ETH_P_IP), start | 0x45);
	frame[2] = length | (__u64)OUTER_TTL << 48 | (__u64)IPPROTO_IPIP << 56;
	frame[3] = (__u16)~sum | 0x10acull << 16 | (__u64)source << 32 | (__u64)(__u16)dst << 48;
	*(__u16 *)(frame + 4) = dst >> 16;
	if (unlikely(!count_sent(c, o, ip_bytes, frame_bytes)))
		return drop(DROP_INTERNAL, frame_bytes);
	return XDP_TX;
}

/*
 * | version, class | flow 0, length, next header, hop limit 64, 0100:: | client XOR port | dst |
 */
static __always_inline int encap_ipv6(
	struct xdp_md *ctx, const struct choice *c, const struct outer *o, __u32 frame_bytes, const bool v6)
{
	__u16 start, length, ip_bytes;
	void *frame, *inner;
	__u8 next;

	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct ipv6hdr)))
		return drop(DROP_HEADROOM_IPV6, frame_bytes);
	frame = data_of(ctx);
	inner = frame + sizeof(struct ipv6hdr) + ETH_HLEN;
	if (inner + sizeof(struct iphdr) > end_of(ctx))
		return drop(DROP_HEADROOM_IPV6, frame_bytes);
	if (v6) {
		start = *(__u16 *)inner & 0xf00f;
		ip_bytes = bpf_ntohs(((struct ipv6hdr *)inner)->payload_len);
		length = bpf_htons(ip_bytes + sizeof(struct ipv6hdr));
		next = IPPROTO_IPV6;
	} else {
		__u8 tos = ((struct iphdr *)inner)->tos;

		start = tos >> 4 | (__u16)(tos & 0xf) << 12;
		length = ((struct iphdr *)inner)->tot_len;
		ip_bytes = bpf_ntohs(length);
		next = IPPROTO_IPIP;
	}
	write_ethernet(frame, c->link, *(__u64 *)(frame + sizeof(struct ipv6hdr)), bpf_htons(ETH_P_IPV6), start | 0x60);
	*(__u64 *)(frame + 16) = (__u64)length << 16 | (__u64)next << 32 | (__u64)OUTER_TTL << 40 | 0x01ull << 48;
	*(__u64 *)(frame + 24) = 0;
	*(__u16 *)(frame + 32) = 0;
	*(__u32 *)(frame + 34) = client_address(o) ^ client_port(o);
	*(__u64 *)(frame + 38) = *(const __u64 *)&c->backend->dst6[0];
	*(__u64 *)(frame + 46) = *(const __u64 *)&c->backend->dst6[2];
	if (unlikely(!count_sent(c, o, ip_bytes, frame_bytes)))
		return drop(DROP_INTERNAL, frame_bytes);
	return XDP_TX;
}

/* Wraps the packet for its backend and sends it back out of the interface that it came in on. */
static __always_inline int encapsulate(
	struct xdp_md *ctx, const struct choice *c, const struct outer *o, __u32 frame_bytes, const bool v6)
{
	if (v6 || unlikely(LINK_FLAGS(c->link) & BACKEND_IPV6))
		return encap_ipv6(ctx, c, o, frame_bytes, v6);
	return encap_ipv4(ctx, c, o, frame_bytes);
}

#endif /* ENCAP_H */
