/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * UDP stable routing: datagrams whose payload begins with 0x52 and a 24-bit server id go to that server, whatever the
 * ring says. The flow table is neither asked nor told; a datagram without an id takes it and the ring as any other.
 */
#ifndef STABLE_H
#define STABLE_H

#include "packet.h"
#include "server_id.h"
#include "stats.h"

#define STABLE_TYPE 0x52
#define STABLE_BYTES 8 /* type, id, 4 bytes that are the application's */

/* Sets r->backend if the datagram names one. Global, verified once for both IP versions. */
__noinline int stable(struct xdp_md *ctx, struct id_route *r)
{
	const __u8 *payload = data_of(ctx) + ETH_HLEN + UDP_HEADER;
	void *end = end_of(ctx);
	__u32 id;

	if (!r)
		return CONTINUE;
	payload += r->v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	if ((void *)(payload + 1) > end || payload[0] != STABLE_TYPE) {
		count(CNT_STABLE_OTHER_TYPE);
		count(CNT_STABLE_RING);
		return CONTINUE;
	}
	if ((void *)(payload + STABLE_BYTES) > end) {
		count(CNT_STABLE_RING);
		return CONTINUE;
	}
	id = payload[1] << 16 | payload[2] << 8 | payload[3];
	if (id == 0) {
		count(CNT_STABLE_RING);
		return CONTINUE;
	}
	switch (find_server(id, &r->backend)) {
	case SERVER_UNKNOWN:
		count(CNT_STABLE_ID_UNKNOWN);
		count(CNT_STABLE_RING);
		break;
	case SERVER_GONE:
		/* Katran means to drop it, and does not. */
		count(CNT_STABLE_BACKEND_GONE);
		break;
	case SERVER_FOUND:
		count(CNT_STABLE_ROUTED);
		break;
	}
	return CONTINUE;
}

#endif /* STABLE_H */
