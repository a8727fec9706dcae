/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * GUE variant 1 (draft-ietf-intarea-gue): IP, UDP and the packet itself, no header of its own; Katran's bytes. The UDP
 * source port spreads flows; the UDP checksum comes from the inner headers alone, since a valid inner checksum makes the
 * rest of the packet sum up to the same value always. Global functions, verified once for both IP versions.
 */
#ifndef GUE_H
#define GUE_H

#include "backend.h"
#include "csum.h"
#include "encap.h"
#include "stats.h"

/* Bytes that are summed up in one step; the buffer lies on the stack. */
#define SUM_CHUNK 128

struct gue_packet {
	__u64 link;
	__u64 client; /* of struct outer */
	__u64 sum; /* out: of everything in the UDP datagram but its header, not folded */
	__u32 backend;
	__u32 v6;
	__u32 is_icmp; /* an ICMP error that quotes the flow */
	__u32 ip_bytes; /* out: length field of the inner header */
};

/* What a sum goes through, a chunk at a time. */
struct gue_sum {
	struct xdp_md *ctx;
	__s64 sum;
	__u32 offset;
	__u32 left;
};

/* 0 goes on, 1 is the end; s->left says whether it was reached. */
static long sum_chunk(__u32 index, struct gue_sum *s)
{
	__u64 chunk[SUM_CHUNK / 8] = {};
	__u32 n = s->left;

	if (n > SUM_CHUNK)
		n = SUM_CHUNK;
	/* For the verifier, which knows neither that there is something left nor the result of the line above. */
	HIDE(n);
	if (n == 0 || n > SUM_CHUNK || bpf_xdp_load_bytes(s->ctx, s->offset, chunk, n))
		return 1;
	s->sum = bpf_csum_diff(NULL, 0, (void *)chunk, SUM_CHUNK, s->sum);
	s->offset += n;
	s->left -= n;
	return s->left == 0;
}

/*
 * Sums up `length` bytes from `offset` on into g->sum: the checksum of a packet that brings none along can't be derived.
 * False if the frame is shorter.
 */
static __always_inline bool sum_bytes(struct xdp_md *ctx, struct gue_packet *g, __u32 offset, __u32 length)
{
	struct gue_sum s = { .ctx = ctx, .offset = offset, .left = length };

	bpf_loop(65535 / SUM_CHUNK + 1, sum_chunk, &s, 0);
	g->sum = (__u32)s.sum;
	return s.left == 0;
}

/* For gue_checksum: exact. True if g->sum holds the true sum of the inner packet; false: Katran's derivation is right. */
static __always_inline bool sum_exactly(struct xdp_md *ctx, struct gue_packet *g, int offset, __u16 *check)
{
	struct iphdr *inner = data_of(ctx) + offset;
	__be16 udp_check;

	if (g->v6 || (void *)(inner + 1) + UDP_HEADER > end_of(ctx))
		return false;
	if (g->is_icmp) {
		/* A valid ICMP message sums up to 0xffff, and it has no pseudo header. */
		const __u32 *w = (const void *)inner;

		g->sum = 0xffffull + w[0] + w[1] + w[2] + w[3] + w[4];
		return true;
	}
	udp_check = ((__be16 *)(inner + 1))[3];
	if (inner->protocol != IPPROTO_UDP || udp_check)
		return false;
	/* A packet that ends before it should gets no checksum. */
	*check = sum_bytes(ctx, g, offset, bpf_ntohs(inner->tot_len));
	return true;
}

/*
 * Inner header less pseudo header plus the 0xffff of a valid checksum: the addresses cancel out, and the length too
 * in IPv6. Subtraction is adding the complement.
 */
static __always_inline __u64 derived_sum(const void *inner, bool v6)
{
	const __u32 *w = inner;
	__u16 bytes;

	if (v6) {
		__u16 next = ((const struct ipv6hdr *)inner)->nexthdr;

		return 0xffffull + w[0] + (w[1] >> 16) + (__u16)~bpf_htons(next);
	}
	bytes = bpf_ntohs(((const struct iphdr *)inner)->tot_len) - sizeof(struct iphdr);
	return 0xffffull + w[0] + w[1] + w[2] + (__u16)~bpf_htons(bytes) +
	       (__u16)~bpf_htons(((const struct iphdr *)inner)->protocol);
}

static __always_inline __u64 udp_header(__u16 source, __u16 length, __u64 sum, __u16 check)
{
	/* The port and the length are in the UDP header; protocol and length in the pseudo header. */
	sum += source + (__u64)config.gue_port + 2ull * length + bpf_htons(IPPROTO_UDP);
	/* 0, no checksum, can come out too: Katran sends it. */
	return source | (__u64)config.gue_port << 16 | (__u64)length << 32 | (check ? (__u64)csum_fold(sum) << 48 : 0);
}

/* | IPv4 | UDP source port: the client's last two address bytes XOR its port, the port's bytes swapped | */
static __always_inline int gue_ipv4(struct xdp_md *ctx, struct gue_packet *g, struct backend *b, __u32 frame_bytes)
{
	const int header = sizeof(struct iphdr) + UDP_HEADER;
	__u16 source = (__u32)g->client >> 16 ^ bpf_htons((__u16)(g->client >> 32)), tos, check = 1;
	__be32 dst = b->dst4;
	struct iphdr *inner, *ip;
	void *frame;
	__u64 sum;

	if (!config.gue_source4)
		return drop(DROP_GUE_SOURCE, frame_bytes);
	if (bpf_xdp_adjust_head(ctx, -header))
		return drop(DROP_HEADROOM_IPV4, frame_bytes);
	if (!config.gue_exact || !sum_exactly(ctx, g, header + ETH_HLEN, &check)) {
		frame = data_of(ctx);
		inner = frame + header + ETH_HLEN;
		if ((void *)(inner + 1) > end_of(ctx))
			return drop(DROP_HEADROOM_IPV4, frame_bytes);
		g->sum = derived_sum(inner, false);
	}
	frame = data_of(ctx);
	inner = frame + header + ETH_HLEN;
	if ((void *)(inner + 1) > end_of(ctx))
		return drop(DROP_HEADROOM_IPV4, frame_bytes);
	tos = *(__u16 *)inner & 0xff00;
	g->ip_bytes = bpf_ntohs(inner->tot_len);
	write_ethernet(frame, g->link, *(__u64 *)(frame + header), bpf_htons(ETH_P_IP), tos | 0x45);
	ip = frame + ETH_HLEN;
	ip->tot_len = bpf_htons(g->ip_bytes + header);
	*(__u32 *)&ip->id = 0;
	*(__u32 *)&ip->ttl = OUTER_TTL | IPPROTO_UDP << 8;
	ip->saddr = config.gue_source4;
	ip->daddr = dst;
	ip->check = ipv4_csum(ip);
	sum = g->sum + config.gue_source4 + dst;
	*(__u64 *)(ip + 1) = udp_header(source, bpf_htons(g->ip_bytes + UDP_HEADER), sum, check);
	return XDP_TX;
}

/* | IPv6 | UDP source port: the client's bytes XOR its port |; of an IPv6 client bytes 12 and 13, of IPv4 the last two */
static __always_inline int gue_ipv6(struct xdp_md *ctx, struct gue_packet *g, struct backend *b, __u32 frame_bytes)
{
	const int header = sizeof(struct ipv6hdr) + UDP_HEADER;
	__u16 source = ((__u32)g->client >> (g->v6 ? 0 : 16)) ^ (__u16)(g->client >> 32), start, check = 1;
	const __u64 dst[2] = { *(const __u64 *)&b->dst6[0], *(const __u64 *)&b->dst6[2] };
	__u32 src[4] = { config.gue_source6[0], config.gue_source6[1], config.gue_source6[2], config.gue_source6[3] };
	void *frame, *inner;
	__u16 bytes;
	__u64 sum;

	if (!(src[0] | src[1] | src[2] | src[3]))
		return drop(DROP_GUE_SOURCE, frame_bytes);
	if (bpf_xdp_adjust_head(ctx, -header))
		return drop(DROP_HEADROOM_IPV6, frame_bytes);
	if (!config.gue_exact || !sum_exactly(ctx, g, header + ETH_HLEN, &check)) {
		frame = data_of(ctx);
		inner = frame + header + ETH_HLEN;
		if (inner + sizeof(struct iphdr) > end_of(ctx))
			return drop(DROP_HEADROOM_IPV6, frame_bytes);
		g->sum = derived_sum(inner, g->v6);
	}
	frame = data_of(ctx);
	inner = frame + header + ETH_HLEN;
	if (inner + sizeof(struct iphdr) > end_of(ctx))
		return drop(DROP_HEADROOM_IPV6, frame_bytes);
	if (g->v6) {
		start = *(__u16 *)inner & 0xf00f;
		g->ip_bytes = bpf_ntohs(((struct ipv6hdr *)inner)->payload_len);
		bytes = g->ip_bytes + sizeof(struct ipv6hdr);
	} else {
		__u8 tos = ((struct iphdr *)inner)->tos;

		start = tos >> 4 | (__u16)(tos & 0xf) << 12;
		bytes = g->ip_bytes = bpf_ntohs(((struct iphdr *)inner)->tot_len);
	}
	bytes = bpf_htons(bytes + UDP_HEADER);
	write_ethernet(frame, g->link, *(__u64 *)(frame + header), bpf_htons(ETH_P_IPV6), start | 0x60);
	*(__u16 *)(frame + 16) = 0;
	*(__u32 *)(frame + 18) = bytes | IPPROTO_UDP << 16 | OUTER_TTL << 24;
	*(__u32 *)(frame + 22) = src[0];
	*(__u32 *)(frame + 26) = src[1];
	*(__u32 *)(frame + 30) = src[2];
	*(__u32 *)(frame + 34) = src[3];
	*(__u64 *)(frame + 38) = dst[0];
	*(__u64 *)(frame + 46) = dst[1];
	sum = g->sum + src[0] + src[1] + src[2] + src[3];
	sum += (dst[0] & 0xffffffff) + (dst[0] >> 32) + (dst[1] & 0xffffffff) + (dst[1] >> 32);
	*(__u64 *)(frame + 54) = udp_header(source, bytes, sum, check);
	return XDP_TX;
}

/* Wraps the packet for its backend. */
__noinline int gue(struct xdp_md *ctx, struct gue_packet *g)
{
	__u32 frame_bytes = bpf_xdp_get_buff_len(ctx);
	struct backend *b;
	__u32 id;

	if (!g)
		return drop(DROP_INTERNAL, frame_bytes);
	id = g->backend;
	b = bpf_map_lookup_elem(&backends, &id);
	if (!b)
		return drop(DROP_INTERNAL, frame_bytes);
	if (g->v6 || LINK_FLAGS(g->link) & BACKEND_IPV6)
		return gue_ipv6(ctx, g, b, frame_bytes);
	return gue_ipv4(ctx, g, b, frame_bytes);
}

/* The packet is known to hold its IP header. */
static __always_inline int encapsulate_gue(
	struct xdp_md *ctx, const struct choice *c, const struct outer *o, __u32 frame_bytes, const bool v6)
{
	struct gue_packet g = {
		.link = c->link,
		.client = o->client,
		.backend = c->id,
		.v6 = v6,
		.is_icmp = o->kind >> 16,
	};
	int action = gue(ctx, &g);

	if (action == XDP_TX && !count_sent(c, o, g.ip_bytes, frame_bytes))
		return drop(DROP_INTERNAL, frame_bytes);
	return action;
}

#endif /* GUE_H */
