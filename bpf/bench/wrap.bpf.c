// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Lets BPF_PROG_TEST_RUN with repeat present the same packet every time: the kernel restores neither contents nor
 * length between repeats. `wrap` undoes what encapsulation changed, sets the flow of this repeat, and tail-calls the
 * program under test. The floors cost what every program in its place would cost.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

#define IPV4_SOURCE (ETH_HLEN + 12)
#define IPV4_DEST (ETH_HLEN + 16)
#define IPV6_SOURCE_END (ETH_HLEN + 20)
#define IPV6_HEADER_END (ETH_HLEN + 40)

struct bench {
	__u32 length; /* of the frame as given */
	__u32 rotate; /* 0: one flow; 4, 6: another source address every time */
	__u32 flow_mask; /* number of flows - 1 */
	__u32 flow_base;
	__u32 seq;
	__u32 vip_base; /* with vip_mask: first destination, as a little-endian word */
	__u32 vip_mask; /* number of vips - 1: spreads the flows over them, by the last address byte */
	__u32 pad;
	__u64 ethernet[2]; /* the first 14 bytes of the frame */
};

/* A global, not a map: direct addresses keep the wrapper out of the figures. User space maps .bss. */
volatile struct bench bench;

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} target SEC(".maps");

/* A bijection (the finaliser of MurmurHash3): flows look random, and no two are equal. */
static __always_inline __u32 scramble(__u32 x)
{
	x = (x ^ x >> 16) * 0x85ebca6b;
	x = (x ^ x >> 13) * 0xc2b2ae35;
	return x ^ x >> 16;
}

SEC("xdp")
int wrap(struct xdp_md *ctx)
{
	__u32 length = ctx->data_end - ctx->data, wanted = bench.length;
	void *data, *end;

	if (length != wanted && bpf_xdp_adjust_head(ctx, (int)(length - wanted)))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + IPV4_DEST + 4 > end)
		return XDP_ABORTED;
	*(__u64 *)data = bench.ethernet[0];
	*(__u32 *)(data + 8) = bench.ethernet[1];
	*(__u16 *)(data + 12) = bench.ethernet[1] >> 32;
	if (bench.rotate) {
		__u32 flow = bench.flow_base + (bench.seq++ & bench.flow_mask), source = scramble(flow);

		if (bench.rotate == 4) {
			*(__u32 *)(data + IPV4_SOURCE) = source;
			if (bench.vip_mask)
				*(__u32 *)(data + IPV4_DEST) = bench.vip_base + ((flow & bench.vip_mask) << 24);
		} else if (data + IPV6_HEADER_END <= end) {
			*(__u32 *)(data + IPV6_SOURCE_END) = source;
		}
	}
	bpf_tail_call(ctx, &target, 0);
	return XDP_ABORTED;
}

#define HEADROOM_STEP 8
#define HEADROOM_STEPS 64
#define TIGHT_FRAME 160

/* For tests: moves the frame to the front of its buffer, so that no header fits before it, and goes on. */
SEC("xdp")
int tight(struct xdp_md *ctx)
{
	__u32 moved = 0;
	void *data, *end;

	for (int i = 0; i < HEADROOM_STEPS; i++) {
		if (bpf_xdp_adjust_head(ctx, -HEADROOM_STEP))
			break;
		moved += HEADROOM_STEP;
	}
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (moved > HEADROOM_STEP * HEADROOM_STEPS)
		return XDP_ABORTED;
	for (int i = 0; i < TIGHT_FRAME; i++) {
		__u8 *to = data + i, *from = to + moved;

		if ((void *)(from + 1) > end)
			break;
		*to = *from;
	}
	if (bpf_xdp_adjust_tail(ctx, -(int)moved))
		return XDP_ABORTED;
	bpf_tail_call(ctx, &target, 0);
	return XDP_ABORTED;
}

SEC("xdp")
int floor_tx(struct xdp_md *ctx)
{
	return XDP_TX;
}

SEC("xdp")
int floor_adjust4(struct xdp_md *ctx)
{
	return bpf_xdp_adjust_head(ctx, -20) ? XDP_ABORTED : XDP_TX;
}

SEC("xdp")
int floor_adjust6(struct xdp_md *ctx)
{
	return bpf_xdp_adjust_head(ctx, -40) ? XDP_ABORTED : XDP_TX;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
