// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A workload for the flow table, made where it is consumed: each run of `retain` sends one packet of a population of
 * flows, or one spoofed SYN, through the program under test. A flow lives for `life` packets on average and begins with
 * a SYN; packets of living flows that miss in the table are what the caller counts.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

#define MAX_FLOWS (1 << 17)
#define SEARCH_STEPS 17
#define TCP_FLAGS_AT (ETH_HLEN + 20 + 13)
#define IPV4_SOURCE (ETH_HLEN + 12)
#define FRAME_MIN (ETH_HLEN + 40)
#define SYN 0x02
#define ACK 0x10
/* Spoofed sources come from the upper half of all, so that they never meet a flow. */
#define FLOOD_BASE 0x80000000u

struct workload {
	__u64 random; /* state of the generator, never 0 */
	__u64 packets; /* out: packets of living flows, SYNs not counted */
	__u64 flows_begun; /* out */
	__u64 spoofed; /* out */
	__u64 ethernet[2];
	__u32 length;
	__u32 flows; /* in the population, up to MAX_FLOWS */
	__u32 life; /* mean packets of a flow */
	__u32 skewed; /* 0: flows are equally busy; 1: as `cumulative` says */
	__u32 flood; /* 1: one spoofed SYN for each packet */
	__u32 next_flow;
	__u32 next_spoofed;
	__u32 turn;
	__u32 identity[MAX_FLOWS]; /* of each flow, 0 = not begun */
	__u32 cumulative[MAX_FLOWS]; /* share of the flows up to this one, as a fraction of 2^32 */
};

/* The only variable: user space maps .bss. */
volatile struct workload workload;

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} target SEC(".maps");

/* xorshift64* (Vigna 2016). */
static __always_inline __u32 next_random(void)
{
	__u64 x = workload.random;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	workload.random = x;
	return x * 0x2545f4914f6cdd1dull >> 32;
}

/* A bijection (the finaliser of MurmurHash3): sources look random, and no two are equal. */
static __always_inline __u32 scramble(__u32 x)
{
	x = (x ^ x >> 16) * 0x85ebca6b;
	x = (x ^ x >> 13) * 0xc2b2ae35;
	return x ^ x >> 16;
}

/* The first flow whose cumulative share is above a random fraction. */
static __always_inline __u32 pick_skewed(__u32 flows)
{
	__u32 low = 0, high = flows - 1, wanted = next_random();

	for (int i = 0; i < SEARCH_STEPS; i++) {
		__u32 middle = (low + high) / 2;

		if (low >= high)
			break;
		if (workload.cumulative[middle & (MAX_FLOWS - 1)] > wanted)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* The source and TCP flags of the next packet. */
static __always_inline __u32 next_packet(__u8 *flags)
{
	__u32 flow, id;

	*flags = SYN;
	if (workload.flood && workload.turn++ & 1) {
		workload.spoofed++;
		return FLOOD_BASE + workload.next_spoofed++;
	}
	flow = workload.skewed ? pick_skewed(workload.flows) : (__u64)next_random() * workload.flows >> 32;
	id = workload.identity[flow & (MAX_FLOWS - 1)];
	if (id && (__u64)next_random() * workload.life >> 32) {
		*flags = ACK;
		workload.packets++;
		return id;
	}
	id = ++workload.next_flow;
	workload.identity[flow & (MAX_FLOWS - 1)] = id;
	workload.flows_begun++;
	return id;
}

SEC("xdp")
int retain(struct xdp_md *ctx)
{
	__u32 length = ctx->data_end - ctx->data, wanted = workload.length;
	void *data, *end;
	__u8 flags;

	if (length != wanted && bpf_xdp_adjust_head(ctx, (int)(length - wanted)))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + FRAME_MIN > end)
		return XDP_ABORTED;
	*(__u64 *)data = workload.ethernet[0];
	*(__u32 *)(data + 8) = workload.ethernet[1];
	*(__u16 *)(data + 12) = workload.ethernet[1] >> 32;
	*(__u32 *)(data + IPV4_SOURCE) = scramble(next_packet(&flags));
	*(__u8 *)(data + TCP_FLAGS_AT) = flags;
	bpf_tail_call(ctx, &target, 0);
	return XDP_ABORTED;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
