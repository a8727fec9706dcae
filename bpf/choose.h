/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which backend takes a packet: the one whose server id it carries, else the one its flow has, else the ring's. */
#ifndef CHOOSE_H
#define CHOOSE_H

#include "backend.h"
#include "flow.h"
#include "packet.h"
#include "quic.h"
#include "ring.h"
#include "stable.h"
#include "stats.h"
#include "tcp_id.h"
#include "vip.h"

/* What choosing a backend returns when it found one, and no reason to drop the packet. */
#define CHOSEN DROP_MAX

/* The tag of a flow under this vip. */
static __always_inline __u64 vip_flow_tag(const struct packet *p, const struct vip *vip, const bool v6)
{
	if (config.prefix_vips && unlikely(vip_flags(vip) & VIP_PREFIX))
		return flow_prefix_tag(p);
	return flow_tag(p, v6);
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

/* The backend that the ring has for this flow. A drop reason, or CHOSEN. */
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
	return CHOSEN;
}

/* Flow table, then ring; what the ring says is remembered. A drop reason, or CHOSEN. */
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
		return CHOSEN;
	reason = choose_new(c, p, vip, v6);
	if (reason != CHOSEN)
		return reason;
	/* A reset ends a flow that we don't know; nothing follows that would have to find it. */
	if (!is_rst(p) && !flow_limited())
		flow_write(entry ?: flow_victim(bucket, now), flow->tag, flow->vip, c->id, now);
	return CHOSEN;
}

/* The backend whose server id a packet carries, if it does. A verdict, or CONTINUE. */
static __always_inline int choose_by_server_id(struct choice *c, struct xdp_md *ctx, const struct packet *p,
	const struct vip *vip, const struct flow_ref *flow, const bool v6)
{
	struct id_route route = {
		.flow = { flow->hash, vip_flow_tag(p, vip, v6), flow->vip },
		.vip_counter = bpf_get_smp_processor_id() * config.max_vips + flow->vip,
		.v6 = v6,
		.no_flow_table = vip_flags(vip) & VIP_NO_FLOW_TABLE,
	};
	int action = CONTINUE;

	if (icmp_of(p)) {
		/* What a server sent is quoted: it names no server. */
		if (protocol_of(p) == IPPROTO_UDP && vip_flags(vip) & VIP_QUIC)
			quic_count_icmp(p, v6);
		return CONTINUE;
	}
	if (protocol_of(p) == IPPROTO_TCP) {
		if (is_syn(p))
			count_new_id(route.vip_counter, CNT_TCP_ID_SYN);
		else
			tcp_server_id(ctx, &route);
	} else {
		if (vip_flags(vip) & VIP_QUIC)
			action = quic(ctx, &route);
		if (action == CONTINUE && vip_flags(vip) & VIP_UDP_STABLE_ROUTING)
			stable(ctx, &route);
	}
	if (action == CONTINUE && route.backend) {
		choose_by_id(c, route.backend);
		c->from_ring = false;
	}
	return action;
}

#endif /* CHOOSE_H */
