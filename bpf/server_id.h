/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Server ids that packets carry: in QUIC connection ids (quic.h), in stable-routing datagrams (stable.h), in a
 * TCP option (tcp_id.h). All share one
 * id space. What is common to them is here: the backend of an id, and how such a choice enters the flow table.
 */
#ifndef SERVER_ID_H
#define SERVER_ID_H

#include "backend.h"
#include "flow.h"
#include "stats.h"

/* In: where the flow is remembered. Out: the backend, 0 if the packet names none. */
struct id_route {
	struct flow_ref flow;
	__u32 vip_counter; /* key of the vip's counters on this CPU */
	__u32 backend;
	__u32 v6;
	__u32 no_flow_table;
};

enum server_lookup {
	SERVER_UNKNOWN, /* nobody has this id */
	SERVER_GONE, /* its backend does not exist */
	SERVER_FOUND,
};

/* The backend of a server id. Linux 6.1 takes no map keys from memory that is an argument, hence the copies. */
static __always_inline enum server_lookup find_server(__u32 id, __u32 *found)
{
	__u32 *value = bpf_map_lookup_elem(&server_ids, &id), backend_id;
	struct backend *b;

	if (!value || *value == 0)
		return SERVER_UNKNOWN;
	backend_id = *value;
	b = bpf_map_lookup_elem(&backends, &backend_id);
	if (!b || !LINK_STATE(READ_ONCE(b->link)))
		return SERVER_GONE;
	*found = backend_id;
	return SERVER_FOUND;
}

/*
 * Compares the backend with the flow table and corrects the table; a flow that it did not know enters with `time`.
 * Counts under `same` or the two that follow it: same, moved, new.
 */
static __always_inline void remember_id(const struct id_route *r, enum lb_counter same, __u32 time)
{
	struct flow_bucket *b = flow_bucket(r->flow.hash);
	struct flow_entry *e;
	__u64 word;

	if (!b)
		return;
	e = flow_match(b, r->flow.tag, r->flow.vip, &word);
	if (e && flow_backend(word) == r->backend) {
		count(same);
		return;
	}
	if (e) {
		__u32 key = r->vip_counter;
		struct vip_counter *v = bpf_map_lookup_elem(&vip_counters, &key);

		count(same + 1);
		if (v)
			v->id_moved++;
		flow_write(e, r->flow.tag, r->flow.vip, r->backend, word >> FLOW_TIME_SHIFT);
		return;
	}
	count(same + 2);
	if (!flow_limited())
		flow_write(flow_victim(b, flow_now()), r->flow.tag, r->flow.vip, r->backend, time & FLOW_TIME_MASK);
}

/* Counts the first packet of a connection, which can't name its server yet. */
static __always_inline void count_new_id(__u32 vip_counter, enum lb_counter which)
{
	struct vip_counter *v = bpf_map_lookup_elem(&vip_counters, &vip_counter);

	count(which);
	if (v)
		v->id_new++;
}

#endif /* SERVER_ID_H */
