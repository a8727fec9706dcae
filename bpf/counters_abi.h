/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is counted, and under which names: `status` and the metrics show the names below in lower case. The rules of
 * lb_abi.h hold. New names go before the _MAX ones: the numbers of the others are part of the layout.
 */
#ifndef COUNTERS_ABI_H
#define COUNTERS_ABI_H

#include <linux/types.h>

/* One line per vip and CPU, at [cpu * max_vips + vip]. */
struct vip_counter {
	__u64 packets;
	__u64 bytes; /* length field of the IP header, as Katran counts */
	__u64 frame_bytes; /* length of the frames as received */
	__u64 ring; /* packets that took the ring */
	__u64 ring_syn; /* of these, TCP SYN */
	__u64 id_new; /* QUIC initial packets, with tcp_server_id SYNs: new connections of a vip routed by server id */
	__u64 id_moved; /* packets whose server id named another backend than the flow table */
	__u64 pad;
};

/* At [cpu * max_backends + id]. */
struct backend_counter {
	__u64 packets;
	__u64 bytes;
};

/* What happened to packets, other than being sent to a backend (see vip_counter) or dropped (see lb_drop). */
enum lb_counter {
	CNT_PASS, /* frames left to the host's own stack */
	CNT_PASS_BYTES,
	CNT_DROP_BYTES, /* of all reasons together */
	CNT_LOCAL, /* of CNT_PASS: for a vip, to a backend on this host */
	CNT_ECHO_REPLY, /* ICMP echo answered for a vip */
	CNT_TOO_BIG_IPV4, /* "too big" generated */
	CNT_TOO_BIG_IPV6,
	CNT_REPLY_BYTES, /* received bytes of the frames answered with an echo reply or "too big" */
	CNT_FLOW_BACKEND_GONE, /* flow-table hits on a backend that is down or gone: rehashed */
	CNT_FLOW_IDLE, /* flow-table hits on UDP flows idle for too long: rehashed */
	CNT_NEW_FLOW_LIMITED, /* packets not remembered because of the new-flow limit */
	CNT_ICMP_PTB_IPV4, /* "fragmentation needed" for flows of a vip */
	CNT_ICMP_PTB_IPV4_SMALL, /* of these, with an MTU below 1280 */
	CNT_ICMP_PTB_IPV6,
	CNT_ICMP_PTB_IPV6_SMALL,
	CNT_QUIC_ICMP, /* ICMP errors for QUIC vips */
	CNT_QUIC_ICMP_IGNORABLE, /* of these, codes that say nothing about the path */
	CNT_QUIC_RING, /* QUIC packets routed without a connection id */
	CNT_QUIC_INITIAL,
	CNT_QUIC_ID_V1,
	CNT_QUIC_ID_V2,
	CNT_QUIC_ID_V3,
	CNT_QUIC_ID_UNKNOWN, /* connection ids that no server id belongs to */
	CNT_QUIC_ID_UNKNOWN_LAST, /* the last of them: a sample, not a count */
	CNT_QUIC_ROUTED, /* routed by connection id */
	CNT_QUIC_FLOW_SAME, /* the flow table agreed with the connection id, */
	CNT_QUIC_FLOW_MOVED, /* disagreed and was overwritten, */
	CNT_QUIC_FLOW_NEW, /* or did not know the flow */
	CNT_STABLE_ROUTED, /* stable routing: sent to the backend of the datagram's server id */
	CNT_STABLE_RING, /* datagrams without a server id, or one that is unknown */
	CNT_STABLE_OTHER_TYPE, /* of these, with another first byte than the one that announces an id, or none */
	CNT_STABLE_ID_UNKNOWN, /* of CNT_STABLE_RING, ids that no server id belongs to */
	CNT_STABLE_BACKEND_GONE, /* ids of a backend that does not exist: flow table and ring decide */
	CNT_DECAP_IPV4, /* outer headers taken off, by the inner packet's family */
	CNT_DECAP_IPV6,
	CNT_DECAP_BALANCED, /* of these, the inner packet was then treated as if it had come so */
	CNT_DECAP_EGRESS, /* of these, sent back to the router */
	CNT_DECAP_FOREIGN, /* tunnel packets for others, passed untouched */
	CNT_TCP_ID_SYN, /* with tcp_server_id: SYNs, which carry no id */
	CNT_TCP_ID_RING, /* segments without a server id, or one that is unknown: flow table and ring decide */
	CNT_TCP_ID_ROUTED, /* sent to the backend of their server id */
	CNT_TCP_ID_FLOW_SAME, /* the flow table agreed with the id, */
	CNT_TCP_ID_FLOW_MOVED, /* disagreed and was overwritten, */
	CNT_TCP_ID_FLOW_NEW, /* or did not know the flow */
	CNT_MAX,
};

/* Why a frame was dropped: every drop has one reason. */
enum lb_drop {
	DROP_TRUNCATED, /* shorter than an Ethernet header, or than the headers a packet for a vip needs */
	DROP_IP_OPTIONS, /* IPv4 options, for a vip */
	DROP_FRAGMENT, /* for a vip */
	DROP_TOO_BIG, /* longer than max_frame, for a vip */
	DROP_ICMP_QUOTE, /* an ICMP error for a vip whose quoted packet can't be read */
	DROP_POOL_EMPTY, /* the vip's pool has no ring or no backends */
	DROP_RING_INVALID, /* a ring that names a rank or a backend out of range */
	DROP_BACKEND_FREE, /* the ring names a backend that does not exist */
	DROP_BACKEND_SELF, /* the backend is this host: encapsulating would loop */
	DROP_BACKEND_FAMILY, /* an IPv6 vip with an IPv4 backend */
	DROP_QUIC_BACKEND, /* the connection id names a backend that does not exist */
	DROP_HEADROOM_IPV4, /* no room for the outer header */
	DROP_HEADROOM_IPV6,
	DROP_REPLY_HEADROOM, /* no room for the header of "too big" */
	DROP_INTERNAL, /* a map that is smaller than the program was told */
	DROP_GUE_SOURCE, /* GUE to a backend of a family in which this host has no encap_source */
	DROP_DECAP_TTL, /* out of a tunnel, and at the end of its TTL */
	DROP_MAX,
};

#define LB_COUNTERS 48
#define LB_DROPS 32

/* One value per CPU of map `counters`. */
struct cpu_counters {
	__u64 count[LB_COUNTERS]; /* by enum lb_counter */
	__u64 drop[LB_DROPS]; /* by enum lb_drop */
	__u64 limit_second; /* new-flow limit: jiffies / hz of the current second */
	__u64 limit_count; /* and the new flows in it */
	__u64 pad[14];
};

_Static_assert(sizeof(struct vip_counter) == 64, "one cache line");
_Static_assert(sizeof(struct cpu_counters) % 64 == 0, "CPUs share no line");
_Static_assert(CNT_MAX <= LB_COUNTERS && DROP_MAX <= LB_DROPS, "the arrays hold every name");

#endif /* COUNTERS_ABI_H */
