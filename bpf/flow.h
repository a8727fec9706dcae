/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The flow table: which backend a flow was given. Shared by all CPUs without locks: an entry is two words of which the
 * first vouches for the second, so that a half-written or raced entry is a miss, which the next packet repairs.
 * Layout, tag and bucket: lb_abi.h.
 */
#ifndef FLOW_H
#define FLOW_H

#include "config.h"
#include "maps.h"
#include "packet.h"
#include "stats.h"

#define FLOW_TIME_MASK ((1u << FLOW_TIME_BITS) - 1)
#define FLOW_BACKEND_MASK ((1u << FLOW_BACKEND_BITS) - 1)
#define FLOW_ESTABLISHED (1ull << FLOW_ESTABLISHED_BIT)
/* Entries that were hit at least once age eight times slower: one spoofed SYN does not evict a live flow. */
#define FLOW_PROBATION_SHIFT 3

/* Where to look for a flow, and what for. */
struct flow_ref {
	__u64 hash;
	__u64 tag;
	__u16 vip;
};

/* The index hash: needs only what is known before the vip lookup, so that both cache misses overlap. */
static __always_inline __u64 flow_hash(const struct packet *p, const bool v6)
{
	__u64 port = (__u64)source_port(p) << 32;

	if (!v6)
		return (p->src[0] | port) * config.flow_key[0] + p->dst[0] * config.flow_key[1];
	return p->src[0] * config.flow_key[0] + p->src[1] * config.flow_key[1] + p->dst[1] * config.flow_key[2] +
	       port * config.flow_key[3];
}

/* The same hash for source port 0. */
static __always_inline __u64 flow_hash_without_port(__u64 hash, const struct packet *p, const bool v6)
{
	return hash - ((__u64)source_port(p) << 32) * config.flow_key[v6 ? 3 : 0];
}

/* Multilinear hash of source and ports: two different flows collide for 1 in 2^32 keys. */
static __always_inline __u64 flow_multilinear(const struct packet *p, const __u32 key)
{
	return (__u32)p->src[0] * config.flow_key[key] + (p->src[0] >> 32) * config.flow_key[key + 1] +
	       (__u32)p->src[1] * config.flow_key[key + 2] + (p->src[1] >> 32) * config.flow_key[key + 3] +
	       p->ports * config.flow_key[key + 4];
}

static __always_inline __u32 flow_fingerprint(const struct packet *p, const __u32 key)
{
	return flow_multilinear(p, key) >> 32;
}

/* Exact for IPv4; 64 keyed bits for IPv6. Destination and protocol are the vip's. */
static __always_inline __u64 flow_tag(const struct packet *p, const bool v6)
{
	if (!v6)
		return p->src[0] | (__u64)p->ports << 32;
	return flow_fingerprint(p, 4) | (__u64)flow_fingerprint(p, 9) << 32;
}

/* The part of the destination in the same hash. */
static __always_inline __u64 flow_destination(const struct packet *p, const __u32 key)
{
	return (__u32)p->dst[0] * config.flow_key[key] + (p->dst[0] >> 32) * config.flow_key[key + 1] +
	       (__u32)p->dst[1] * config.flow_key[key + 2] + (p->dst[1] >> 32) * config.flow_key[key + 3];
}

/* For vips that are prefixes, which don't stand for one destination: 64 keyed bits for both families. */
static __always_inline __u64 flow_prefix_tag(const struct packet *p)
{
	return (flow_multilinear(p, 4) + flow_destination(p, 14)) >> 32 |
	       (flow_multilinear(p, 9) + flow_destination(p, 18)) >> 32 << 32;
}

static __always_inline struct flow_bucket *flow_bucket(__u64 hash)
{
	__u32 index = (hash >> 32) * config.flow_buckets >> 32;

	if (config.flow_per_cpu)
		index += bpf_get_smp_processor_id() * config.flow_buckets;
	return bpf_map_lookup_elem(&flows, &index);
}

static __always_inline __u32 flow_now(void)
{
	return (bpf_jiffies64() >> config.clock_shift) & FLOW_TIME_MASK;
}

static __always_inline __u32 flow_age(__u64 word, __u32 now)
{
	return (now - (__u32)(word >> FLOW_TIME_SHIFT)) & FLOW_TIME_MASK;
}

static __always_inline __u32 flow_backend(__u64 word)
{
	return word >> FLOW_BACKEND_SHIFT & FLOW_BACKEND_MASK;
}

static __always_inline __u64 flow_mix(__u64 word)
{
	return (__u64)(__u32)(flow_backend(word) * FLOW_MIX + (__u16)word) << 32;
}

/* The entry of a flow and its second word, or NULL. */
static __always_inline struct flow_entry *flow_match(struct flow_bucket *b, __u64 tag, __u16 vip, __u64 *word)
{
#pragma unroll
	for (int i = 0; i < FLOW_WAYS; i++) {
		struct flow_entry *e = &b->entry[i];
		__u64 rest = READ_ONCE(e->word[0]) ^ tag;

		/* The mix leaves the lower half alone: nearly every other flow ends here. */
		if ((__u32)rest)
			continue;
		*word = READ_ONCE(e->word[1]);
		if ((__u16)*word == vip && rest == flow_mix(*word))
			return e;
	}
	return NULL;
}

/*
 * Notes that a flow was seen, at most once per time unit. A lost exchange means that somebody replaced the entry:
 * then there is nothing to note.
 */
static __always_inline void flow_touch(struct flow_entry *e, __u64 word, __u32 now)
{
	__u64 seen = (word & ((1ull << FLOW_ESTABLISHED_BIT) - 1)) | FLOW_ESTABLISHED | (__u64)now << FLOW_TIME_SHIFT;

	if (unlikely(seen != word))
		__sync_val_compare_and_swap(&e->word[1], word, seen);
}

/* The entry to give up: an empty one, else the oldest. At equal age, one that was never hit. */
static __always_inline struct flow_entry *flow_victim(struct flow_bucket *b, __u32 now)
{
	struct flow_entry *victim = &b->entry[0];
	__u32 oldest = 0;

#pragma unroll
	for (int i = 0; i < FLOW_WAYS; i++) {
		__u64 word = READ_ONCE(b->entry[i].word[1]);
		__u32 age = flow_age(word, now);

		if (!(word & FLOW_ESTABLISHED))
			age = ((age + 1) << FLOW_PROBATION_SHIFT) - 1;
		if (!word)
			age = ~0u;
		if (age > oldest) {
			oldest = age;
			victim = &b->entry[i];
		}
	}
	return victim;
}

/* Writes a flow over `e`. Between the two stores the entry matches nothing, or the flow it held before. */
static __always_inline void flow_write(struct flow_entry *e, __u64 tag, __u16 vip, __u32 backend, __u32 time)
{
	__u64 word = vip | (__u64)backend << FLOW_BACKEND_SHIFT | (__u64)time << FLOW_TIME_SHIFT;

	WRITE_ONCE(e->word[0], tag ^ flow_mix(word));
	WRITE_ONCE(e->word[1], word);
}

/* Whether this CPU has remembered as many new flows in this second as it may. */
static __always_inline bool flow_limited(void)
{
	struct cpu_counters *c;
	__u64 second;

	if (!config.new_flow_limit)
		return false;
	c = this_cpu_counters();
	if (!c)
		return false;
	second = bpf_jiffies64() / config.hz;
	if (c->limit_second != second) {
		c->limit_second = second;
		c->limit_count = 0;
	}
	if (c->limit_count++ < config.new_flow_limit)
		return false;
	c->count[CNT_NEW_FLOW_LIMITED]++;
	return true;
}

#endif /* FLOW_H */
