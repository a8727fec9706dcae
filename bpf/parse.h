/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The common case: Ethernet, IP without options or fragments, TCP or UDP. All bounds checks of it are here. Anything
 * else is not judged but reported as "not parsed", and goes to unparsed.h.
 */
#ifndef PARSE_H
#define PARSE_H

#include "packet.h"

/* More-fragments bit and fragment offset (RFC 791 3.1). */
#define IPV4_FRAGMENT_MASK 0x3fff
#define IPV4_OFFSET_MASK 0x1fff
#define IPV4_NO_OPTIONS 0x45

/* Ports, and for TCP the flags. */
static __always_inline bool parse_ports(struct packet *p, void *l4, void *end)
{
	if (likely(protocol_of(p) == IPPROTO_TCP)) {
		if (l4 + TCP_HEADER > end)
			return false;
		set_tcp_flags(p, *(__u8 *)(l4 + TCP_FLAGS_OFFSET));
	} else if (protocol_of(p) == IPPROTO_UDP) {
		if (l4 + UDP_HEADER > end)
			return false;
	} else {
		return false;
	}
	p->ports = *(__u32 *)l4;
	return true;
}

static __always_inline void parse_ipv4_header(struct packet *p, const struct iphdr *ip)
{
	p->src[0] = ip->saddr;
	p->dst[0] = ip->daddr;
	p->src[1] = p->dst[1] = 0;
	p->kind = ip->protocol;
}

static __always_inline bool parse_ipv4(struct packet *p, void *data, void *end)
{
	struct iphdr *ip = data + ETH_HLEN;

	if ((void *)(ip + 1) > end)
		return false;
	/* The version is not looked at, as in Katran: the Ethernet type decides. */
	if (ip->ihl != 5 || ip->frag_off & bpf_htons(IPV4_FRAGMENT_MASK))
		return false;
	parse_ipv4_header(p, ip);
	return parse_ports(p, ip + 1, end);
}

static __always_inline void parse_ipv6_header(struct packet *p, const struct ipv6hdr *ip)
{
	const __u64 *addresses = (const void *)&ip->saddr;

	/* Whole words: a memcpy from a packet becomes single bytes, since clang assumes no alignment. */
	p->src[0] = addresses[0];
	p->src[1] = addresses[1];
	p->dst[0] = addresses[2];
	p->dst[1] = addresses[3];
	p->kind = ip->nexthdr;
}

static __always_inline bool parse_ipv6(struct packet *p, void *data, void *end)
{
	struct ipv6hdr *ip = data + ETH_HLEN;

	if ((void *)(ip + 1) > end)
		return false;
	parse_ipv6_header(p, ip);
	/* Extension headers are not walked: they are neither TCP nor UDP. */
	return parse_ports(p, ip + 1, end);
}

#endif /* PARSE_H */
