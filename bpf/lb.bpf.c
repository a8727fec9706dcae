// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The load balancer: a packet for a vip leaves, wrapped, towards one of the vip's backends; any other packet is passed
 * on untouched. `balance` is compiled twice, for IPv4 and IPv6, so that each copy keeps its packet in registers.
 */
#include "backend.h"
#include "choose.h"
#include "config.h"
#include "encap.h"
#include "flow.h"
#include "gue.h"
#include "inline_decap.h"
#include "packet.h"
#include "parse.h"
#include "stats.h"
#include "too_big.h"
#include "unparsed.h"
#include "vip.h"

/* Datagrams that may carry a server id. */
#define VIP_SERVER_ID_FLAGS (VIP_QUIC | VIP_UDP_STABLE_ROUTING)
/* Flags that change what identifies a flow or its backend; all other packets skip them with one test. */
#define VIP_RARE_FLAGS (VIP_HASH_NO_SOURCE_PORT | VIP_HASH_DEST_PORT_ONLY | VIP_SERVER_ID_FLAGS)

/* Takes ports and addresses out of what identifies a flow, where the vip says so. */
static __always_inline void apply_hash_flags(
	struct packet *p, __u32 flags, struct flow_ref *flow, struct outer *outer, const bool v6)
{
	if (flags & VIP_HASH_NO_SOURCE_PORT) {
		flow->hash = flow_hash_without_port(flow->hash, p, v6);
		p->ports &= 0xffff0000;
		outer->client = (__u32)outer->client;
	}
	if (flags & VIP_HASH_DEST_PORT_ONLY)
		outer->client &= ~0ull << 32;
}

/* A packet for a backend on this host itself. */
static __always_inline int deliver_locally(
	struct xdp_md *ctx, const struct choice *c, const struct outer *outer, __u32 frame_bytes, const bool v6)
{
	void *ip = data_of(ctx) + ETH_HLEN;
	__u16 ip_bytes = 0;

	if (ip + sizeof(struct iphdr) <= end_of(ctx))
		ip_bytes = bpf_ntohs(v6 ? ((struct ipv6hdr *)ip)->payload_len : ((struct iphdr *)ip)->tot_len);
	count_sent(c, outer, ip_bytes, frame_bytes);
	count(CNT_LOCAL);
	return pass(frame_bytes);
}

/* Sends the packet to its backend. */
static __always_inline int forward(
	struct xdp_md *ctx, const struct choice *c, const struct outer *outer, __u32 frame_bytes, const bool v6)
{
	__u8 flags = LINK_FLAGS(c->link);

	if (v6 && unlikely(!(flags & BACKEND_IPV6)))
		return drop(DROP_BACKEND_FAMILY, frame_bytes);
	if (unlikely(flags & (BACKEND_SELF | BACKEND_LOCAL | BACKEND_GUE))) {
		/* A local backend has one of our own addresses: delivering to it is no loop. */
		if (flags & BACKEND_LOCAL && vip_flags(&outer->vip) & VIP_LOCAL)
			return deliver_locally(ctx, c, outer, frame_bytes, v6);
		if (flags & BACKEND_SELF)
			return drop(DROP_BACKEND_SELF, frame_bytes);
		if (flags & BACKEND_GUE)
			return encapsulate_gue(ctx, c, outer, frame_bytes, v6);
	}
	return encapsulate(ctx, c, outer, frame_bytes, v6);
}

/* The story of a packet. The frame is known to hold an Ethernet header. */
static __always_inline int balance(struct xdp_md *ctx, __u32 frame_bytes, const bool v6)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	struct choice choice = {};
	struct flow_ref flow;
	struct outer outer;
	enum lb_drop reason;
	struct packet p;
	struct vip vip;
	int action;

	if (unlikely(!(v6 ? parse_ipv6(&p, data, end) : parse_ipv4(&p, data, end)))) {
		struct packet quoted = {};

		action = v6 ? unparsed_ipv6(ctx, &quoted) : unparsed_ipv4(ctx, &quoted);
		if (action != CONTINUE)
			return action;
		p = quoted;
	}
	flow.hash = flow_hash(&p, v6);
	/* Now, not where it is used: its loads and multiplications overlap with the vip lookup. */
	HIDE(flow.hash);
	if (!find_vip(&vip, &p, v6))
		return pass(frame_bytes);
	if (unlikely(frame_bytes > config.max_frame))
		return too_big(ctx, &p, frame_bytes, v6);

	flow.vip = vip_number(&vip);
	outer.client = (v6 ? p.src[1] >> 32 : p.src[0]) | (__u64)source_port(&p) << 32;
	outer.kind = p.kind;
	outer.vip = vip;
	if (unlikely(vip_flags(&vip) & VIP_RARE_FLAGS)) {
		apply_hash_flags(&p, vip_flags(&vip), &flow, &outer, v6);
		if (config.server_ids && vip_flags(&vip) & VIP_SERVER_ID_FLAGS && protocol_of(&p) == IPPROTO_UDP) {
			action = choose_by_server_id(&choice, ctx, &p, &vip, &flow, v6);
			if (action != CONTINUE)
				return action;
		}
	}
	if (config.tcp_server_id && protocol_of(&p) == IPPROTO_TCP)
		choose_by_server_id(&choice, ctx, &p, &vip, &flow, v6);
	if (likely(!choice.backend)) {
		flow.tag = vip_flow_tag(&p, &vip, v6);
		reason = choose(&choice, &p, &vip, &flow, v6);
		if (unlikely(reason != CHOSEN))
			return drop(reason, frame_bytes);
	}
	return forward(ctx, &choice, &outer, frame_bytes, v6);
}

static __always_inline int by_ethernet_type(struct xdp_md *ctx, __u32 frame_bytes)
{
	void *data = data_of(ctx);
	__be16 type;

	if (data + ETH_HLEN > end_of(ctx))
		return drop(DROP_TRUNCATED, frame_bytes);
	/* Not through struct ethhdr: that is packed, and clang would load single bytes. */
	type = *(__be16 *)(data + ETH_HLEN - sizeof(type));
	if (likely(type == bpf_htons(ETH_P_IP)))
		return balance(ctx, frame_bytes, false);
	if (type == bpf_htons(ETH_P_IPV6))
		return balance(ctx, frame_bytes, true);
	return pass(frame_bytes);
}

SEC("xdp")
int lb(struct xdp_md *ctx)
{
	int action = config.decap ? decapsulate(ctx) : CONTINUE;

	if (action != CONTINUE)
		return action;
	return by_ethernet_type(ctx, end_of(ctx) - data_of(ctx));
}

/* The same for frames that span several buffers: jumbo frames, or native mode with a large MTU. */
SEC("xdp.frags")
int lb_frags(struct xdp_md *ctx)
{
	int action = config.decap ? decapsulate(ctx) : CONTINUE;

	if (action != CONTINUE)
		return action;
	return by_ethernet_type(ctx, bpf_xdp_get_buff_len(ctx));
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
