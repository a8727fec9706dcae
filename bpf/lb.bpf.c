// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The load balancer: a packet for a vip leaves, wrapped, towards one of the vip's backends; any other packet is passed
 * on untouched. `balance` is compiled twice, for IPv4 and IPv6, so that each copy keeps its packet in registers.
 */
#include "config.h"
#include "encap.h"
#include "flow.h"
#include "maps.h"
#include "packet.h"
#include "parse.h"
#include "quic.h"
#include "ring.h"
#include "stats.h"
#include "too_big.h"
#include "unparsed.h"
#include "vip.h"

/* Flags that change what identifies a flow; all other packets skip them with one test. */
#define VIP_RARE_FLAGS (VIP_HASH_NO_SOURCE_PORT | VIP_HASH_DEST_PORT_ONLY | VIP_QUIC)

/* True if a flow may stay on this backend. */
static __always_inline bool keeps_flows(__u64 link)
{
	__u8 state = LINK_STATE(link);

	return state == BACKEND_ACTIVE || state == BACKEND_DRAINING;
}

static __always_inline bool choose_by_id(struct choice *c, __u32 id)
{
	c->id = id;
	c->backend = bpf_map_lookup_elem(&backends, &id);
	if (unlikely(!c->backend))
		return false;
	c->link = READ_ONCE(c->backend->link);
	return true;
}

/* The backend that the flow table has for this flow, unless the entry is idle or its backend keeps no flows. */
static __always_inline bool choose_known(
	struct choice *c, struct flow_entry *e, __u64 word, __u32 now, const struct packet *p)
{
	if (protocol_of(p) == IPPROTO_UDP && flow_age(word, now) > config.udp_idle) {
		count(CNT_FLOW_IDLE);
		return false;
	}
	if (!choose_by_id(c, flow_backend(word)) || unlikely(!keeps_flows(c->link))) {
		count(CNT_FLOW_BACKEND_GONE);
		return false;
	}
	flow_touch(e, word, now);
	c->from_ring = false;
	return true;
}

/* The backend that the ring has for this flow. A drop reason, or DROP_MAX when there is one. */
static __always_inline enum lb_drop choose_new(
	struct choice *c, const struct packet *p, const struct vip *vip, const bool v6)
{
	__u64 nowhere[2] = { 0, 0 };
	__u32 ports = p->ports, hash;
	enum lb_drop reason;

	if (unlikely(vip_flags(vip) & VIP_HASH_DEST_PORT_ONLY))
		hash = ring_hash(nowhere, ports >> 16 | (ports & 0xffff0000), v6);
	else
		hash = ring_hash(p->src, ports, v6);
	c->id = ring_backend(vip_pool(vip), ring_position(hash), &reason);
	if (unlikely(!c->id))
		return reason;
	c->from_ring = true;
	/* A backend that went down a moment ago is still the best there is: the next ring will not have it. */
	if (!choose_by_id(c, c->id) || !LINK_STATE(c->link))
		return DROP_BACKEND_FREE;
	return DROP_MAX;
}

/* Flow table, then ring; what the ring says is remembered. A drop reason, or DROP_MAX. */
static __always_inline enum lb_drop choose(
	struct choice *c, const struct packet *p, const struct vip *vip, const struct flow_ref *flow, const bool v6)
{
	struct flow_bucket *bucket;
	struct flow_entry *entry;
	enum lb_drop reason;
	__u64 word = 0;
	__u32 now;

	if (unlikely(vip_flags(vip) & VIP_NO_FLOW_TABLE))
		return choose_new(c, p, vip, v6);
	bucket = flow_bucket(flow->hash);
	if (unlikely(!bucket))
		return DROP_INTERNAL;
	now = flow_now();
	entry = flow_match(bucket, flow->tag, flow->vip, &word);
	/* A SYN begins anew: it takes the ring as it is today, and its entry is written over. */
	if (entry && !is_syn(p) && choose_known(c, entry, word, now, p))
		return DROP_MAX;
	reason = choose_new(c, p, vip, v6);
	if (reason != DROP_MAX)
		return reason;
	/* A reset ends a flow that we don't know; nothing follows that would have to find it. */
	if (!is_rst(p) && !flow_limited())
		flow_write(entry ?: flow_victim(bucket, now), flow->tag, flow->vip, c->id, now);
	return DROP_MAX;
}

/* Applies the flags of VIP_RARE_FLAGS. A verdict, or CONTINUE; c->backend is set if a connection id named one. */
static __always_inline int apply_flags(struct xdp_md *ctx, struct packet *p, const struct vip *vip,
	struct flow_ref *flow, struct outer *outer, struct choice *c, const bool v6)
{
	if (vip_flags(vip) & VIP_HASH_NO_SOURCE_PORT) {
		flow->hash = flow_hash_without_port(flow->hash, p, v6);
		p->ports &= 0xffff0000;
		outer->client = (__u32)outer->client;
	}
	if (vip_flags(vip) & VIP_HASH_DEST_PORT_ONLY)
		outer->client &= ~0ull << 32;
	if (!config.server_ids || !(vip_flags(vip) & VIP_QUIC) || protocol_of(p) != IPPROTO_UDP)
		return CONTINUE;
	if (icmp_of(p)) {
		quic_count_icmp(p, v6);
		return CONTINUE;
	}
	struct quic_route route = {
		.flow = { flow->hash, flow_tag(p, v6), flow->vip },
		.vip_counter = bpf_get_smp_processor_id() * config.max_vips + vip_number(vip),
		.v6 = v6,
	};
	int action = quic(ctx, &route);

	if (action == CONTINUE && route.backend) {
		choose_by_id(c, route.backend);
		c->from_ring = false;
	}
	return action;
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
	if (unlikely(flags & (BACKEND_SELF | BACKEND_LOCAL))) {
		/* A local backend has one of our own addresses: delivering to it is no loop. */
		if (flags & BACKEND_LOCAL && vip_flags(&outer->vip) & VIP_LOCAL)
			return deliver_locally(ctx, c, outer, frame_bytes, v6);
		if (flags & BACKEND_SELF)
			return drop(DROP_BACKEND_SELF, frame_bytes);
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
		action = apply_flags(ctx, &p, &vip, &flow, &outer, &choice, v6);
		if (action != CONTINUE)
			return action;
	}
	if (likely(!choice.backend)) {
		flow.tag = flow_tag(&p, v6);
		reason = choose(&choice, &p, &vip, &flow, v6);
		if (unlikely(reason != DROP_MAX))
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
	return by_ethernet_type(ctx, end_of(ctx) - data_of(ctx));
}

/* The same for frames that span several buffers: jumbo frames, or native mode with a large MTU. */
SEC("xdp.frags")
int lb_frags(struct xdp_md *ctx)
{
	return by_ethernet_type(ctx, bpf_xdp_get_buff_len(ctx));
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
