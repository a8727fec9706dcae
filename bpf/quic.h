/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * QUIC vips: packets that carry a connection id with a server id in it go to that server, whatever their addresses, so
 * that a client may move. Layout of ids: draft-ietf-quic-load-balancers in spirit, Katran's versions 1 to 3 in bytes.
 */
#ifndef QUIC_H
#define QUIC_H

#include "packet.h"
#include "server_id.h"
#include "stats.h"

#define QUIC_LONG_HEADER 0x80
#define QUIC_TYPE_MASK 0x30
#define QUIC_HANDSHAKE 0x20 /* types below carry an id that the client made up */
#define QUIC_LONG_BYTES 14 /* flags, version, id length, 8 bytes of id */
#define QUIC_SHORT_BYTES 9 /* flags, 8 bytes of id */
#define QUIC_ID_LENGTH_OFFSET 5
#define QUIC_MIN_ID 8

/* What a packet says about its server. */
enum quic_id {
	QUIC_NO_ID,
	QUIC_INITIAL,
	QUIC_ID_V1,
	QUIC_ID_V2,
	QUIC_ID_V3,
};

static __always_inline enum quic_id quic_server_id(const __u8 *payload, void *end, __u32 *id)
{
	const __u8 *cid = payload + 1;

	if ((void *)(payload + 1) > end)
		return QUIC_NO_ID;
	if (payload[0] & QUIC_LONG_HEADER) {
		if ((void *)(payload + QUIC_LONG_BYTES) > end)
			return QUIC_NO_ID;
		if ((payload[0] & QUIC_TYPE_MASK) < QUIC_HANDSHAKE)
			return QUIC_INITIAL;
		if (payload[QUIC_ID_LENGTH_OFFSET] < QUIC_MIN_ID)
			return QUIC_NO_ID;
		cid = payload + QUIC_ID_LENGTH_OFFSET + 1;
	} else if ((void *)(payload + QUIC_SHORT_BYTES) > end) {
		return QUIC_NO_ID;
	}

	switch (cid[0] >> 6) {
	case 1:
		*id = (cid[0] & 0x3f) << 10 | cid[1] << 2 | cid[2] >> 6;
		return QUIC_ID_V1;
	case 2:
		*id = cid[1] << 16 | cid[2] << 8 | cid[3];
		return QUIC_ID_V2;
	case 3:
		*id = (__u32)cid[1] << 24 | cid[2] << 16 | cid[3] << 8 | cid[4];
		return QUIC_ID_V3;
	default:
		return QUIC_NO_ID;
	}
}

/*
 * XDP_DROP if the id names a backend that is gone, else CONTINUE. Global, verified once for both IP versions.
 */
__noinline int quic(struct xdp_md *ctx, struct id_route *r)
{
	void *data = data_of(ctx);
	enum quic_id kind;
	__u32 id = 0;

	if (!r)
		return CONTINUE;
	data += ETH_HLEN + UDP_HEADER + (r->v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	kind = quic_server_id(data, end_of(ctx), &id);
	if (kind == QUIC_INITIAL) {
		count_new_id(r->vip_counter, CNT_QUIC_INITIAL);
		return CONTINUE;
	}
	if (kind == QUIC_NO_ID || id == 0) {
		count(CNT_QUIC_RING);
		return CONTINUE;
	}
	count(CNT_QUIC_ID_V1 + (kind - QUIC_ID_V1));
	switch (find_server(id, &r->backend)) {
	case SERVER_UNKNOWN: {
		struct cpu_counters *c = this_cpu_counters();

		if (c) {
			c->count[CNT_QUIC_ID_UNKNOWN]++;
			c->count[CNT_QUIC_ID_UNKNOWN_LAST] = id;
			c->count[CNT_QUIC_RING]++;
		}
		return CONTINUE;
	}
	case SERVER_GONE:
		return drop(DROP_QUIC_BACKEND, bpf_xdp_get_buff_len(ctx));
	case SERVER_FOUND:
		break;
	}
	/* Enters as idle, so that packets without an id still take the ring: Katran's choice. */
	remember_id(r, CNT_QUIC_FLOW_SAME, flow_now() - config.udp_idle - 1);
	count(CNT_QUIC_ROUTED);
	return CONTINUE;
}

/* ICMP errors quote ids that the server sent, not the client's: they are only counted. */
static __always_inline void quic_count_icmp(const struct packet *p, const bool v6)
{
	__u8 code = icmp_of(p) - 1;

	count(CNT_QUIC_ICMP);
	if (v6 ? code == 3 || code == 4 : code == 1 || code == 3)
		count(CNT_QUIC_ICMP_IGNORABLE);
}

#endif /* QUIC_H */
