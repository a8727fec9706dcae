// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tells user space the clock of the flow table: run once by BPF_PROG_TEST_RUN, it writes jiffies and, for measuring
 * their rate, nanoseconds over the first 16 bytes of the frame. Never attached to an interface.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int clock(struct xdp_md *ctx)
{
	__u64 *now = (void *)(long)ctx->data;

	if ((void *)(now + 2) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	now[0] = bpf_jiffies64();
	now[1] = bpf_ktime_get_ns();
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
