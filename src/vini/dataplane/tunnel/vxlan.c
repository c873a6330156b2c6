/* VXLAN (RFC 7348) put on and taken off at XDP, for links between nodes.
 *
 * A link's vif is one end of a pair; the other end is in the node's own namespace, and what comes in there gets headers
 * and leaves by the underlay (`leave`).  One program at the underlay takes them off what arrives for any such tunnel
 * and hands it to that end of its pair (`vini_arrive__`); all else goes on to the kernel.
 *
 * What `leave` can't send by itself (the next hop's address isn't known yet, or the underlay takes no frames from XDP)
 * goes on, wrapped, to `by_kernel` at tc, where the kernel finds the way and asks for addresses.
 *
 * Compiled with -DVINI_XDP for the first two, without it for the third; all have the maps in common.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
#include <stddef.h>

#define AF_INET 2
#define AF_INET6 10
#define TUNNELS 16384
#define VNI_FOLLOWS 0x08000000
#define DO_NOT_FRAGMENT 0x4000   /* nobody at the other end would put it together */
#define HOP_LIMIT 64

struct tunnel {
	__be32 local[4], remote[4];  /* of IPv4 only the first word */
	__be32 vni;                  /* as in the header: shifted by 8 */
	__be16 port;
	__u8 version;                /* 4 or 6 */
	__u8 direct;                 /* the underlay takes frames from XDP */
	__u32 other;                 /* index of the underlay (leaving), or of the pair's end (arriving) */
};

struct {                             /* by the index of the pair's end here */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, TUNNELS);
	__type(key, __u32);
	__type(value, struct tunnel);
} leaving SEC(".maps");

struct vxlan {
	__be32 flags, vni;
};

struct outer4 {
	struct ethhdr ethernet;
	struct iphdr ip;
	struct udphdr udp;
	struct vxlan vxlan;
} __attribute__((packed));

struct outer6 {
	struct ethhdr ethernet;
	struct ipv6hdr ip;
	struct udphdr udp;
	struct vxlan vxlan;
} __attribute__((packed));

static __always_inline struct bpf_fib_lookup question(const struct tunnel *t, __u32 ifindex)
{
	struct bpf_fib_lookup f = {.ifindex = ifindex, .l4_protocol = IPPROTO_UDP};
	if (t->version == 4) {
		f.family = AF_INET;
		f.ipv4_src = t->local[0];
		f.ipv4_dst = t->remote[0];
	} else {
		f.family = AF_INET6;
		__builtin_memcpy(f.ipv6_src, t->local, 16);
		__builtin_memcpy(f.ipv6_dst, t->remote, 16);
	}
	return f;
}

static __always_inline bool same6(const __be32 *a, const __be32 *b)
{
	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]));
}

#ifdef VINI_XDP

struct {                             /* by the number as in the header */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, TUNNELS);
	__type(key, __be32);
	__type(value, struct tunnel);
} arriving SEC(".maps");

struct owner {                       /* whose a tunnel is: what says so when all else of it is gone */
	char ns[112], dev[16];
};

struct {                             /* by the number as in the header; for the agent */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, TUNNELS);
	__type(key, __be32);
	__type(value, struct owner);
} owners SEC(".maps");

/* The way out as the kernel told it last, on this processor: packets come in bursts of one tunnel, and the question
 * costs more than all the rest.  It is asked again when the kernel's coarse clock has ticked: after 1 to 10 ms. */
struct hop {
	__u64 asked_ns;
	__u32 ifindex;               /* of the pair's end; 0: none */
	__u32 direct;
	__u8 to[ETH_ALEN], from[ETH_ALEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hop);
} hops SEC(".maps");

static __noinline int ask(struct xdp_md *ctx, const struct tunnel *t, struct hop *h)
{
	if (!ctx || !t || !h)
		return -1;
	struct bpf_fib_lookup f = question(t, ctx->ingress_ifindex);
	long found = bpf_fib_lookup(ctx, &f, sizeof f, 0);
	h->direct = t->direct && found == BPF_FIB_LKUP_RET_SUCCESS && f.ifindex == t->other;
	__builtin_memcpy(h->to, f.dmac, ETH_ALEN);
	__builtin_memcpy(h->from, f.smac, ETH_ALEN);
	h->ifindex = ctx->ingress_ifindex;
	return 0;
}

/* The same for all packets of a flow, so that whoever spreads load below keeps them in order: the finalizer of
 * MurmurHash3 over what IP and what follows it begin with, and of other frames the Ethernet addresses. */
static __always_inline __u16 source_port(const void *data, const void *end)
{
	const struct ethhdr *e = data;
	const __u64 *words = data;
	__u64 x = words[0] ^ *(const __u32 *)(words + 1);
	if (e->h_proto == bpf_htons(ETH_P_IP) && data + ETH_HLEN + 24 <= end) {
		const struct iphdr *ip = data + ETH_HLEN;
		x = ((__u64)ip->saddr << 32 | ip->daddr) ^ ip->protocol;
		if (ip->ihl == 5 && !(ip->frag_off & bpf_htons(0x3fff)))
			x += *(const __u32 *)(ip + 1) * 0x9e3779b97f4a7c15ULL;
	} else if (e->h_proto == bpf_htons(ETH_P_IPV6) && data + ETH_HLEN + 44 <= end) {
		const struct ipv6hdr *ip = data + ETH_HLEN;
		const __u32 *a = ip->saddr.in6_u.u6_addr32, *b = ip->daddr.in6_u.u6_addr32;
		x = ((__u64)(a[0] ^ a[2] ^ b[1]) << 32 | (a[1] ^ a[3] ^ b[3])) + (b[0] ^ b[2] ^ ip->nexthdr);
		if (ip->nexthdr == IPPROTO_TCP || ip->nexthdr == IPPROTO_UDP)
			x += *(const __u32 *)(ip + 1) * 0x9e3779b97f4a7c15ULL;
	}
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdULL;
	x ^= x >> 33;
	return bpf_htons((__u16)(0xc000 | (x & 0x3fff)));
}

static __always_inline __u16 checksum(const struct iphdr *ip)
{
	const __u16 *words = (const __u16 *)ip;
	__u32 sum = 0;
#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)~(sum + (sum >> 16));
}

/* No checksums of UDP: the inner packet has its own (RFC 7348, 4.1; RFC 6935 for IPv6). */
static __always_inline bool wrap(struct xdp_md *ctx, const struct tunnel *t, const struct hop *h, __u16 port, __u16 size)
{
	struct udphdr udp = {.source = port, .dest = t->port, .len = bpf_htons(size + sizeof udp + sizeof(struct vxlan))};
	struct vxlan vxlan = {bpf_htonl(VNI_FOLLOWS), t->vni};
	if (t->version == 4) {
		if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct outer4)))
			return false;
		struct outer4 *o = (void *)(long)ctx->data;
		if ((void *)(o + 1) > (void *)(long)ctx->data_end)
			return false;
		__builtin_memcpy(o->ethernet.h_dest, h->to, ETH_ALEN);
		__builtin_memcpy(o->ethernet.h_source, h->from, ETH_ALEN);
		o->ethernet.h_proto = bpf_htons(ETH_P_IP);
		o->ip = (struct iphdr){.version = 4, .ihl = 5, .tot_len = bpf_htons(size + sizeof *o - ETH_HLEN),
			.frag_off = bpf_htons(DO_NOT_FRAGMENT), .ttl = HOP_LIMIT, .protocol = IPPROTO_UDP,
			.saddr = t->local[0], .daddr = t->remote[0]};
		o->ip.check = checksum(&o->ip);
		o->udp = udp;
		o->vxlan = vxlan;
		return true;
	}
	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct outer6)))
		return false;
	struct outer6 *o = (void *)(long)ctx->data;
	if ((void *)(o + 1) > (void *)(long)ctx->data_end)
		return false;
	__builtin_memcpy(o->ethernet.h_dest, h->to, ETH_ALEN);
	__builtin_memcpy(o->ethernet.h_source, h->from, ETH_ALEN);
	o->ethernet.h_proto = bpf_htons(ETH_P_IPV6);
	o->ip = (struct ipv6hdr){.version = 6, .payload_len = udp.len, .nexthdr = IPPROTO_UDP, .hop_limit = HOP_LIMIT};
	__builtin_memcpy(&o->ip.saddr, t->local, 16);
	__builtin_memcpy(&o->ip.daddr, t->remote, 16);
	o->udp = udp;
	o->vxlan = vxlan;
	return true;
}

SEC("xdp") int leave(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 ifindex = ctx->ingress_ifindex, zero = 0;
	struct tunnel *t = bpf_map_lookup_elem(&leaving, &ifindex);
	struct hop *h = bpf_map_lookup_elem(&hops, &zero);
	if (!t || !h || data + ETH_HLEN > end)
		return XDP_DROP;
	__u64 now = bpf_ktime_get_coarse_ns();
	if (h->ifindex != ifindex || h->asked_ns != now) {
		if (ask(ctx, t, h))
			return XDP_DROP;
		h->asked_ns = now;
	}
	if (!wrap(ctx, t, h, source_port(data, end), (__u16)(end - data)))
		return XDP_DROP;
	return h->direct ? (int)bpf_redirect(t->other, 0) : XDP_PASS;
}

/* Takes `size` bytes off and hands the rest to the pair. */
static __always_inline int unwrap(struct xdp_md *ctx, const struct tunnel *t, int size)
{
	return bpf_xdp_adjust_head(ctx, size) ? XDP_DROP : (int)bpf_redirect(t->other, 0);
}

static __always_inline const struct tunnel *addressed(const struct vxlan *v, __be16 port, __u8 version)
{
	__be32 vni = v->vni & bpf_htonl(0xffffff00);
	const struct tunnel *t = bpf_map_lookup_elem(&arriving, &vni);
	return t && v->flags & bpf_htonl(VNI_FOLLOWS) && t->port == port && t->version == version ? t : NULL;
}

/* The node puts the name of its place in place of this one, which is as long. */
SEC("xdp") int vini_arrive__(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct outer4 *a = data;
	if ((void *)(a + 1) + ETH_HLEN > end)
		return XDP_PASS;
	if (a->ethernet.h_proto == bpf_htons(ETH_P_IP)) {
		if (a->ip.ihl != 5 || a->ip.protocol != IPPROTO_UDP || a->ip.frag_off & bpf_htons(0x3fff))
			return XDP_PASS;
		const struct tunnel *t = addressed(&a->vxlan, a->udp.dest, 4);
		if (!t || t->local[0] != a->ip.daddr || t->remote[0] != a->ip.saddr)
			return XDP_PASS;
		return unwrap(ctx, t, sizeof *a);
	}
	struct outer6 *b = data;
	if (b->ethernet.h_proto != bpf_htons(ETH_P_IPV6) || (void *)(b + 1) + ETH_HLEN > end ||
	    b->ip.nexthdr != IPPROTO_UDP)
		return XDP_PASS;
	const struct tunnel *t = addressed(&b->vxlan, b->udp.dest, 6);
	if (!t || !same6(t->local, b->ip.daddr.in6_u.u6_addr32) || !same6(t->remote, b->ip.saddr.in6_u.u6_addr32))
		return XDP_PASS;
	return unwrap(ctx, t, sizeof *b);
}

#else

struct behind4 {
	struct iphdr ip;
	struct udphdr udp;
	struct vxlan vxlan;
};

struct behind6 {
	struct ipv6hdr ip;
	struct udphdr udp;
	struct vxlan vxlan;
};

/* Only what `leave` wrapped may pass: if somebody takes that away, nothing of a slice reaches the node's kernel. */
static __always_inline bool is_wrapped(struct __sk_buff *s, const struct tunnel *t)
{
	if (t->version == 4) {
		struct behind4 b;
		return s->protocol == bpf_htons(ETH_P_IP) && !bpf_skb_load_bytes(s, ETH_HLEN, &b, sizeof b) &&
		       b.ip.saddr == t->local[0] && b.ip.daddr == t->remote[0] && b.ip.protocol == IPPROTO_UDP &&
		       b.udp.dest == t->port && b.vxlan.vni == t->vni;
	}
	struct behind6 b;
	return s->protocol == bpf_htons(ETH_P_IPV6) && !bpf_skb_load_bytes(s, ETH_HLEN, &b, sizeof b) &&
	       same6(b.ip.saddr.in6_u.u6_addr32, t->local) && same6(b.ip.daddr.in6_u.u6_addr32, t->remote) &&
	       b.ip.nexthdr == IPPROTO_UDP && b.udp.dest == t->port && b.vxlan.vni == t->vni;
}

SEC("tc") int by_kernel(struct __sk_buff *s)
{
	__u32 ifindex = s->ifindex;
	const struct tunnel *t = bpf_map_lookup_elem(&leaving, &ifindex);
	if (!t || !is_wrapped(s, t))
		return TC_ACT_SHOT;
	struct bpf_fib_lookup f = question(t, ifindex);
	long found = bpf_fib_lookup(s, &f, sizeof f, 0);
	bool known = found == BPF_FIB_LKUP_RET_SUCCESS || found == BPF_FIB_LKUP_RET_NO_NEIGH;
	return (int)bpf_redirect_neigh(known ? f.ifindex : t->other, NULL, 0, 0);
}

#endif

char _license[] SEC("license") = "GPL";
