// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Runs on backends: takes the load balancer's outer header off, for kernels without tunnel modules, and leaves the
 * packet to the host. A tunnel packet is ours if its outer destination is in decap_addresses or its inner destination
 * in decap_vips; with both empty nothing is. Everything else passes untouched: a decapsulator that trusts any tunnel
 * packet lets the world inject packets with forged sources.
 */
#include "packet.h"
#include "parse.h"

/* UDP port where GUE (variant 1: the packet follows the UDP header) arrives; 0: none is unwrapped. Set before load. */
const volatile __be16 gue_port = 0;

/* IPv4 as ::ffff:a.b.c.d */
struct decap_key {
	__be32 address[4];
};

/* Own addresses that tunnels end at. Written by the control plane, never pinned: it lives as long as the program. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 256);
	__type(key, struct decap_key);
	__type(value, __u32);
} decap_addresses SEC(".maps");

/* The vips that this backend serves. Written and kept like decap_addresses. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct decap_key);
	__type(value, __u32);
} decap_vips SEC(".maps");

struct decap_counters {
	__u64 ipv4; /* packets unwrapped, by their inner family */
	__u64 ipv6;
	__u64 foreign; /* tunnel packets passed on as they were: neither address is known */
	__u64 truncated; /* tunnel packets too short for their inner header, passed on */
};

/* One value for each CPU; written by packets, read by the control plane. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct decap_counters);
} decap_counters SEC(".maps");

static __always_inline struct decap_key key_of(const __u32 *address, const bool v6)
{
	if (!v6)
		return (struct decap_key){ { 0, 0, bpf_htonl(0xffff), address[0] } };
	return (struct decap_key){ { address[0], address[1], address[2], address[3] } };
}

static __always_inline bool is_ours(const __u32 *outer, const bool outer_v6, const __u32 *inner, const bool inner_v6)
{
	struct decap_key address = key_of(outer, outer_v6), vip = key_of(inner, inner_v6);

	return bpf_map_lookup_elem(&decap_addresses, &address) || bpf_map_lookup_elem(&decap_vips, &vip);
}

/* Takes `header` bytes from between the Ethernet header and the inner packet. */
static __always_inline int strip(struct xdp_md *ctx, int header, __u16 inner_type)
{
	void *data = data_of(ctx);
	__u64 macs;
	__u32 source;

	if (data + ETH_HLEN > end_of(ctx))
		return XDP_PASS;
	macs = *(__u64 *)data;
	source = *(__u32 *)(data + 8);
	if (bpf_xdp_adjust_head(ctx, header))
		return XDP_PASS;
	data = data_of(ctx);
	if (data + ETH_HLEN > end_of(ctx))
		return XDP_DROP;
	*(__u64 *)data = macs;
	*(__u32 *)(data + 8) = source;
	*(__u16 *)(data + 12) = inner_type;
	return XDP_PASS;
}

/* Unwraps the packet if it is ours. `header` bytes of outer headers follow the Ethernet header; their bounds are known. */
static __always_inline int unwrap(
	struct xdp_md *ctx, int header, const __u32 *outer_dst, const bool outer_v6, const bool inner_v6)
{
	void *inner = data_of(ctx) + ETH_HLEN + header;
	struct decap_counters *c;
	const void *inner_dst;
	__u32 zero = 0;

	c = bpf_map_lookup_elem(&decap_counters, &zero);
	if (!c)
		return XDP_PASS;
	if (inner + (inner_v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) > end_of(ctx)) {
		c->truncated++;
		return XDP_PASS;
	}
	inner_dst = inner_v6 ? (void *)&((struct ipv6hdr *)inner)->daddr : (void *)&((struct iphdr *)inner)->daddr;
	if (!is_ours(outer_dst, outer_v6, inner_dst, inner_v6)) {
		c->foreign++;
		return XDP_PASS;
	}
	if (inner_v6)
		c->ipv6++;
	else
		c->ipv4++;
	return strip(ctx, header, inner_v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP));
}

/* Its checksum is not looked at: the inner packet brings its own. */
static __always_inline int unwrap_gue(struct xdp_md *ctx, void *udp, int header, const __u32 *outer_dst, const bool outer_v6)
{
	__u8 version;

	if (!gue_port || udp + UDP_HEADER + 1 > end_of(ctx) || ((__be16 *)udp)[1] != gue_port)
		return XDP_PASS;
	version = *(__u8 *)(udp + UDP_HEADER) >> 4;
	if (version == 4)
		return unwrap(ctx, header + UDP_HEADER, outer_dst, outer_v6, false);
	if (version == 6)
		return unwrap(ctx, header + UDP_HEADER, outer_dst, outer_v6, true);
	return XDP_PASS;
}

static __always_inline int decap_ipv4(struct xdp_md *ctx, struct iphdr *ip, void *end)
{
	if ((void *)(ip + 1) > end)
		return XDP_PASS;
	/* The load balancer sends neither options nor fragments. */
	if (ip->ihl != 5 || ip->frag_off & bpf_htons(IPV4_FRAGMENT_MASK))
		return XDP_PASS;
	if (ip->protocol == IPPROTO_IPIP)
		return unwrap(ctx, sizeof(*ip), &ip->daddr, false, false);
	if (ip->protocol == IPPROTO_UDP)
		return unwrap_gue(ctx, ip + 1, sizeof(*ip), &ip->daddr, false);
	return XDP_PASS;
}

static __always_inline int decap_ipv6(struct xdp_md *ctx, struct ipv6hdr *ip, void *end)
{
	if ((void *)(ip + 1) > end)
		return XDP_PASS;
	if (ip->nexthdr == IPPROTO_IPIP)
		return unwrap(ctx, sizeof(*ip), ip->daddr.in6_u.u6_addr32, true, false);
	if (ip->nexthdr == IPPROTO_IPV6)
		return unwrap(ctx, sizeof(*ip), ip->daddr.in6_u.u6_addr32, true, true);
	if (ip->nexthdr == IPPROTO_UDP)
		return unwrap_gue(ctx, ip + 1, sizeof(*ip), ip->daddr.in6_u.u6_addr32, true);
	return XDP_PASS;
}

static __always_inline int decap_frame(struct xdp_md *ctx)
{
	struct ethhdr *eth = data_of(ctx);
	void *end = end_of(ctx);

	if ((void *)(eth + 1) > end)
		return XDP_PASS;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		return decap_ipv4(ctx, (void *)(eth + 1), end);
	if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		return decap_ipv6(ctx, (void *)(eth + 1), end);
	return XDP_PASS;
}

SEC("xdp")
int decap(struct xdp_md *ctx)
{
	return decap_frame(ctx);
}

SEC("xdp.frags")
int decap_frags(struct xdp_md *ctx)
{
	return decap_frame(ctx);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
