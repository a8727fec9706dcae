/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP server ids: segments that carry option 0xb7 with a server id go to that server, on every TCP vip. Clients echo
 * there what the server wrote when the connection began, so a SYN has none and takes the ring.
 */
#ifndef TCP_ID_H
#define TCP_ID_H

#include "packet.h"
#include "server_id.h"
#include "stats.h"

#define TCP_DATA_OFFSET 12
#define TCP_OPTIONS_MAX 40
#define TCP_OPTION_END 0
#define TCP_OPTION_NOP 1
#define TCP_OPTION_SERVER_ID 0xb7
#define TCP_SERVER_ID_BYTES 6 /* kind, length, id in the order of x86 hosts */
/* Options looked at, as in Katran. */
#define TCP_OPTIONS_WALKED 15

/* The id in the options, 0 if there is none. */
static __always_inline __u32 tcp_option_id(const __u8 *tcp, void *end)
{
	__u32 left, at = TCP_HEADER;

	if ((void *)(tcp + TCP_HEADER) > end)
		return 0;
	left = (tcp[TCP_DATA_OFFSET] >> 4) * 4;
	if (left < TCP_HEADER + TCP_SERVER_ID_BYTES)
		return 0;
	left -= TCP_HEADER;
	for (int i = 0; i < TCP_OPTIONS_WALKED; i++) {
		const __u8 *option = tcp + (at & 0x3f);
		__u32 length;

		if (left == 0 || left > TCP_OPTIONS_MAX || (void *)(option + 1) > end || option[0] == TCP_OPTION_END)
			return 0;
		if (option[0] == TCP_OPTION_NOP) {
			left--;
			at++;
			continue;
		}
		if (left < 2 || (void *)(option + 2) > end)
			return 0;
		length = option[1];
		if (length > left)
			return 0;
		if (option[0] == TCP_OPTION_SERVER_ID) {
			if (length != TCP_SERVER_ID_BYTES || (void *)(option + TCP_SERVER_ID_BYTES) > end)
				return 0;
			return option[2] | option[3] << 8 | option[4] << 16 | (__u32)option[5] << 24;
		}
		left -= length;
		at += length;
	}
	return 0;
}

/* Sets r->backend if the segment, which is no SYN, names one. Global, verified once for both IP versions. */
__noinline int tcp_server_id(struct xdp_md *ctx, struct id_route *r)
{
	__u32 id;

	if (!r)
		return CONTINUE;
	id = tcp_option_id(data_of(ctx) + ETH_HLEN + (r->v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)), end_of(ctx));
	if (id == 0 || find_server(id, &r->backend) != SERVER_FOUND) {
		count(CNT_TCP_ID_RING);
		return CONTINUE;
	}
	count(CNT_TCP_ID_ROUTED);
	if (!r->no_flow_table)
		remember_id(r, CNT_TCP_ID_FLOW_SAME, flow_now());
	return CONTINUE;
}

#endif /* TCP_ID_H */
