/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Backends: the packed word that says where and whether packets go to one, read once for each packet. */
#ifndef BACKEND_H
#define BACKEND_H

#include "maps.h"
#include "packet.h"

#define LINK_MAC_MASK 0xffffffffffffull
#define LINK_FLAGS(link) ((__u8)((link) >> 48))
#define LINK_STATE(link) ((__u8)((link) >> 56))

/* A backend, and how it was found. */
struct choice {
	struct backend *backend;
	__u64 link;
	__u32 id;
	bool from_ring;
};

/* True if a flow may stay on this backend. */
static __always_inline bool keeps_flows(__u64 link)
{
	__u8 state = LINK_STATE(link);

	return state == BACKEND_ACTIVE || state == BACKEND_DRAINING;
}

/* False if there is no backend of this id. */
static __always_inline bool choose_by_id(struct choice *c, __u32 id)
{
	c->id = id;
	c->backend = bpf_map_lookup_elem(&backends, &id);
	if (unlikely(!c->backend))
		return false;
	c->link = READ_ONCE(c->backend->link);
	return true;
}

#endif /* BACKEND_H */
