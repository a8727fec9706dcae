/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the steps of the packet path hand to each other. Addresses and ports are held as they lie on the wire, loaded
 * as little-endian words; an IPv4 address is the low half of word 0.
 */
#ifndef PACKET_H
#define PACKET_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
/* One load, neither split nor repeated: for words that other CPUs write. */
#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, value) (*(volatile typeof(x) *)&(x) = (value))
/* Hides a value's origin from the compiler, so that it keeps the bounds check that the verifier wants to see. */
#define HIDE(x) asm volatile("" : "+r"(x))

/* Returned by a step that gave no verdict: the packet goes on. Not an XDP action. */
#define CONTINUE (-1)

#define TCP_FLAG_SYN_BIT 0x02
#define TCP_FLAG_RST_BIT 0x04
#define TCP_FLAGS_OFFSET 13
#define TCP_HEADER 20
#define UDP_HEADER 8

/*
 * A packet, as far as routing cares. Few words, since everything here lives across calls: what encapsulation copies is
 * read from the packet again.
 */
struct packet {
	__u64 src[2];
	__u64 dst[2];
	__u32 ports; /* source port | destination port << 16 */
	/* protocol | TCP flags << 8 (0 unless TCP) | 1 + code of the ICMP error that quotes this flow << 16 (0: none does) */
	__u32 kind;
};

static __always_inline __u8 protocol_of(const struct packet *p)
{
	return p->kind;
}

static __always_inline bool is_syn(const struct packet *p)
{
	return p->kind & TCP_FLAG_SYN_BIT << 8;
}

static __always_inline bool is_rst(const struct packet *p)
{
	return p->kind & TCP_FLAG_RST_BIT << 8;
}

static __always_inline void set_tcp_flags(struct packet *p, __u8 flags)
{
	p->kind |= (__u32)flags << 8;
}

static __always_inline void set_icmp_code(struct packet *p, __u8 code)
{
	p->kind |= (1u + code) << 16;
}

/* 1 + the code of the ICMP error, or 0. */
static __always_inline __u32 icmp_of(const struct packet *p)
{
	return p->kind >> 16;
}

static __always_inline __u16 source_port(const struct packet *p)
{
	return p->ports;
}

static __always_inline __u16 dest_port(const struct packet *p)
{
	return p->ports >> 16;
}

static __always_inline void *data_of(struct xdp_md *ctx)
{
	return (void *)(long)ctx->data;
}

static __always_inline void *end_of(struct xdp_md *ctx)
{
	return (void *)(long)ctx->data_end;
}

#endif /* PACKET_H */
