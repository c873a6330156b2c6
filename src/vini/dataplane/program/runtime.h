/* What elements stand on: one packet, seen the same way from tc and from XDP.
 *
 * Compiled with -DVINI_XDP for the XDP hook, without it for tc.  An element is a function that takes a
 * `struct packet *` and answers with the number of the output that the packet leaves by; any other number means that
 * the packet is lost.  It never touches the context itself, so that it can't know, and need not care, at which hook
 * it runs.
 *
 * Every pointer into the packet comes from packet_at() or one of its kin, which have checked the bounds; after a
 * call that inserts, removes or rewrites (packet_insert, packet_remove, packet_set4, packet_set_port, ...)
 * earlier pointers are void.
 */
#pragma once
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
#include <stddef.h>

#define UNUSED __attribute__((unused)) /* at this hook, perhaps */
#define ELEMENT static __always_inline UNUSED
#ifndef AF_INET
#define AF_INET 2
#define AF_INET6 10
#endif

#ifdef VINI_XDP
typedef struct xdp_md context;
#define HOOK "xdp"
#define VERDICT_DROP XDP_DROP
#define VERDICT_KERNEL XDP_PASS
#else
typedef struct __sk_buff context;
#define HOOK "tc"
#define VERDICT_DROP TC_ACT_SHOT
#define VERDICT_KERNEL TC_ACT_UNSPEC /* on to the next filter: shaping comes behind programs */
#endif

/* Ethernet protocols of our own elements: the two for local experiments (IEEE 802). */
#define PROTOCOL_ROUTE 0x88b5
#define PROTOCOL_ID 0x88b6
#define PROTOCOL_MPLS 0x8847

/* ---- headers that an element writes and another one reads -------------------------------------------------- */

struct route_header {        /* the hops of a source route; those before `next` are done */
	__be16 protocol;
	__u8 next, count;
	__u8 hops[8];
};

struct id_header {           /* flat identifiers */
	__be16 protocol;
	__u8 hops, zero;
	__be32 to, from;
};

struct gre_header {          /* with a key, and no more: flags are GRE_KEY (RFC 2890) */
	__be16 flags, protocol;
	__be32 key;
};
#define GRE_KEY 0x2000

struct vxlan_headers {       /* all that is in front of the inner frame's payload (RFC 7348) */
	struct iphdr ip;
	struct udphdr udp;
	__be32 flags, vni;
	struct ethhdr inner;
} __attribute__((packed));
#define VXLAN_VNI 0x08000000

/* ---- the vifs of the sliver, filled in by the node ----------------------------------------------------- */

struct vif {
	__u32 ifindex;           /* 0: no such vif */
	__u8 mac[6], peer[6];    /* ours, and that of the link's other end */
};
#define VIFS 64

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, VIFS);
	__type(key, __u32);
	__type(value, struct vif);
} vifs SEC(".maps");

/* ---- counters: packets and bytes of one name, one per processor ---------------------------------------- */

struct tally {
	__u64 packets, bytes;
};

#ifndef COUNTERS
#define COUNTERS 1
#define COUNTERS_MAP counters
#endif
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, struct tally);
} COUNTERS_MAP SEC(".maps");

/* ---- the packet ---------------------------------------------------------------------------------------- */

struct packet {
	context *ctx;
	void *data, *end;
	const struct vif *way;   /* where it will leave, and its Ethernet addresses then; NULL: not chosen */
	struct vif found;        /* what `way` points to when it came from the kernel's table */
	bool leaving;            /* at an egress hook: it is on its way out by ctx->ifindex */
	__u64 unwrapped;         /* what kind of tunnel it came out of in this program; 0: none */
};

static __always_inline void packet_look(struct packet *p)
{
	p->data = (void *)(long)p->ctx->data;
	p->end = (void *)(long)p->ctx->data_end;
}

#define HEADERS 128 /* bytes that are in one piece, where the packet has as many */

static __always_inline void packet_gather(struct packet *p)
{
	packet_look(p);
#ifndef VINI_XDP
	__u32 length = p->ctx->len;
	if (p->data + HEADERS > p->end && length > (__u32)(p->end - p->data)) {
		bpf_skb_pull_data(p->ctx, length < HEADERS ? length : HEADERS);
		packet_look(p);
	}
#endif
}

static __always_inline struct packet packet_begin(context *ctx, bool leaving)
{
	struct packet p = {.ctx = ctx, .leaving = leaving};
	packet_gather(&p);
	return p;
}

/* `size` bytes from `offset` on, or NULL where the packet is shorter.  An offset that is only known while the program
 * runs is below HEADERS; the verifier must see that, and that what is checked is what is used. */
static __always_inline void *packet_at(const struct packet *p, __u64 offset, __u32 size)
{
	if (__builtin_constant_p(offset)) {
		void *at = p->data + offset;
		return at + size <= p->end ? at : NULL;
	}
	asm volatile("%0 &= %1" : "+r"(offset) : "i"(HEADERS - 1));
	void *at = p->data + offset;
	asm volatile("" : "+r"(at));
	return at + size <= p->end ? at : NULL;
}

static __always_inline __u32 packet_length(const struct packet *p)
{
#ifdef VINI_XDP
	return (__u32)(p->end - p->data);
#else
	return p->ctx->len;
#endif
}

static __always_inline __u32 packet_ifindex(const struct packet *p)
{
#ifdef VINI_XDP
	return p->ctx->ingress_ifindex;
#else
	return p->ctx->ifindex;
#endif
}

/* How many packets it will be on a wire: a large segment of tc is several. */
static __always_inline __u32 packet_segments(const struct packet *p)
{
#ifdef VINI_XDP
	return 1;
#else
	__u32 segments = p->ctx->gso_segs;
	return segments ? segments : 1;
#endif
}

static __always_inline bool packet_is_large(const struct packet *p)
{
#ifdef VINI_XDP
	return false;
#else
	return p->ctx->gso_size != 0;
#endif
}

static __always_inline void packet_count(const struct packet *p, __u32 counter)
{
	struct tally *t = bpf_map_lookup_elem(&COUNTERS_MAP, &counter);
	if (t) {
		t->packets += packet_segments(p);
		t->bytes += packet_length(p);
	}
}

/* The protocol named by the Ethernet header, in host order; 0 where there is none. */
static __always_inline __u16 packet_protocol(const struct packet *p)
{
	const struct ethhdr *e = packet_at(p, 0, sizeof *e);
	return e ? bpf_ntohs(e->h_proto) : 0;
}

/* What follows the Ethernet header, where that names this protocol. */
static __always_inline void *packet_header(const struct packet *p, __u16 protocol, __u32 size)
{
	return packet_protocol(p) == protocol ? packet_at(p, ETH_HLEN, size) : NULL;
}

static __always_inline struct iphdr *packet_ip(const struct packet *p)
{
	struct iphdr *ip = packet_header(p, ETH_P_IP, sizeof *ip);
	return ip && ip->version == 4 && ip->ihl >= 5 ? ip : NULL;
}

static __always_inline struct ipv6hdr *packet_ip6(const struct packet *p)
{
	struct ipv6hdr *ip = packet_header(p, ETH_P_IPV6, sizeof *ip);
	return ip && ip->version == 6 ? ip : NULL;
}

/* An ICMP echo (RFC 792); linux/icmp.h wants the C library's headers. */
struct icmp_echo {
	__u8 type, code;
	__be16 check, id, number;
};
#define ICMP_REPLY 0
#define ICMP_REQUEST 8

#define IP_MORE 0x2000
#define IP_OFFSET 0x1fff

static __always_inline bool ip_is_fragment(const struct iphdr *ip)
{
	return ip->frag_off & bpf_htons(IP_MORE | IP_OFFSET);
}

/* Where the transport header of an IPv4 packet begins. */
static __always_inline __u32 ip_transport(const struct iphdr *ip)
{
	return ETH_HLEN + ip->ihl * 4;
}

/* ---- keys of longest-prefix-match tables ------------------------------------------------------------------ */

struct prefix4 {
	__u32 length;
	__be32 address;
};

struct prefix6 {
	__u32 length;
	struct in6_addr address;
};

/* What an IPv4 table holds for the packet's destination; NULL also where it isn't IPv4. */
static __always_inline const void *packet_route4(const struct packet *p, void *table)
{
	const struct iphdr *ip = packet_ip(p);
	if (!ip)
		return NULL;
	struct prefix4 key = {32, ip->daddr};
	return bpf_map_lookup_elem(table, &key);
}

/* ---- flows ------------------------------------------------------------------------------------------------ */

union address {
	__u8 bytes[16];
	__be32 words[4];
	__u64 halves[2];
};

struct prefix {
	union address address, mask;
};

struct ports {
	union {
		struct {
			__u16 first, last;
		};
		__u8 bytes[4];
	};
};

/* Addresses (IPv4 ones as ::ffff:a.b.c.d), transport protocol, and ports in host order, 0 where there are none. */
struct flow {
	union address from, to;
	__u16 from_port, to_port;
	__u8 protocol;
};

/* A flow as a table's key. */
struct flow4 {
	__be32 from, to;
	__be16 from_port, to_port;
	__u8 protocol, zero[3];
};

/* False where it is not IP.  Fragments but the first have no ports; behind IPv6 extension headers none are seen. */
static __always_inline bool packet_flow(const struct packet *p, struct flow *f)
{
	__u32 transport;
	const struct iphdr *ip = packet_ip(p);
	if (ip) {
		*f = (struct flow){.from.words = {0, 0, bpf_htonl(0xffff), ip->saddr},
			.to.words = {0, 0, bpf_htonl(0xffff), ip->daddr}, .protocol = ip->protocol};
		if (ip->frag_off & bpf_htons(IP_OFFSET))
			return true;
		transport = ip_transport(ip);
	} else {
		const struct ipv6hdr *ip6 = packet_ip6(p);
		if (!ip6)
			return false;
		*f = (struct flow){.protocol = ip6->nexthdr};
		__builtin_memcpy(&f->from, &ip6->saddr, 16);
		__builtin_memcpy(&f->to, &ip6->daddr, 16);
		transport = ETH_HLEN + sizeof *ip6;
	}
	if (f->protocol == IPPROTO_TCP || f->protocol == IPPROTO_UDP) {
		const __be16 *ports = packet_at(p, transport, 4);
		if (ports) {
			f->from_port = bpf_ntohs(ports[0]);
			f->to_port = bpf_ntohs(ports[1]);
		}
	}
	return true;
}

/* The finalizer of MurmurHash3: every bit of the input changes half of the output's. */
static __always_inline __u32 mixed(__u64 x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdULL;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ULL;
	return (__u32)(x ^ (x >> 33));
}

/* The same for all packets of a flow; 0 for what is not IP.  A datagram's first fragment may differ from the others. */
static __always_inline __u32 packet_hash(const struct packet *p)
{
	struct flow f;
	if (!packet_flow(p, &f))
		return 0;
	__u64 ends = f.from.halves[0] * 3 + f.from.halves[1] * 5 + f.to.halves[0] * 7 + f.to.halves[1] * 11;
	return mixed(ends ^ ((__u64)f.from_port << 40 | (__u64)f.to_port << 24 | (__u64)f.protocol << 16));
}

/* ---- checksums ------------------------------------------------------------------------------------------- */

static __always_inline __u16 folded(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)(sum + (sum >> 16));
}

/* RFC 1624: the checksum after a 16-bit word changed. */
static __always_inline __u16 checksum_after(__u16 check, __u16 from, __u16 to)
{
	return (__u16)~folded((__u16)~check + (__u16)~from + to);
}

static __always_inline __u16 checksum_after4(__u16 check, __be32 from, __be32 to)
{
	return checksum_after(checksum_after(check, (__u16)from, (__u16)to), (__u16)(from >> 16), (__u16)(to >> 16));
}

/* Of an IPv4 header without options, whose checksum is 0. */
static __always_inline __u16 ip_checksum(const struct iphdr *ip)
{
	const __u16 *words = (const __u16 *)ip;
	__u32 sum = 0;
#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += words[i];
	return (__u16)~folded(sum);
}

/* ---- fields under a transport checksum ------------------------------------------------------------------------- */

/* Where an IPv4 packet's transport checksum is; 0 where it has none that we know, or is a fragment. */
static __always_inline __u32 packet_check(const struct packet *p)
{
	const struct iphdr *ip = packet_ip(p);
	if (!ip || ip_is_fragment(ip))
		return 0;
	switch (ip->protocol) {
	case IPPROTO_TCP: return ip_transport(ip) + offsetof(struct tcphdr, check);
	case IPPROTO_UDP: return ip_transport(ip) + offsetof(struct udphdr, check);
	case IPPROTO_ICMP: return ip_transport(ip) + offsetof(struct icmp_echo, check);
	}
	return 0;
}

#ifdef VINI_XDP
static __always_inline bool transport_fix(struct packet *p, __u32 at, __be32 from, __be32 to, bool udp)
{
	__u16 *check = packet_at(p, at, sizeof *check);
	if (!check)
		return false;
	if (udp && !*check)
		return true; /* it has none */
	*check = checksum_after4(*check, from, to);
	if (udp && !*check)
		*check = 0xffff;
	return true;
}
#endif

/* Sets an address of an IPv4 header (at `field`), and all checksums; `check` from packet_check().  At tc the kernel
 * knows whether the transport checksum is complete or left to the device, so it must do the work. */
static __always_inline bool packet_set4(struct packet *p, __u32 field, __be32 to, __u32 check, __u8 protocol)
{
	__be32 *address = packet_at(p, field, sizeof *address);
	struct iphdr *ip = packet_ip(p);
	if (!address || !ip)
		return false;
	__be32 from = *address;
#ifdef VINI_XDP
	*address = to;
	ip->check = checksum_after4(ip->check, from, to);
	return protocol == IPPROTO_ICMP || transport_fix(p, check, from, to, protocol == IPPROTO_UDP);
#else
	__u64 how = BPF_F_PSEUDO_HDR | sizeof to | (protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0);
	if (bpf_l3_csum_replace(p->ctx, ETH_HLEN + offsetof(struct iphdr, check), from, to, sizeof to) ||
	    (protocol != IPPROTO_ICMP && bpf_l4_csum_replace(p->ctx, check, from, to, how)) ||
	    bpf_skb_store_bytes(p->ctx, field, &to, sizeof to, 0))
		return false;
	packet_look(p);
	return true;
#endif
}

/* Sets a port (at `field`), or any other 16 bits under the transport checksum. */
static __always_inline bool packet_set_port(struct packet *p, __u32 field, __be16 to, __u32 check, __u8 protocol)
{
	__be16 *port = packet_at(p, field, sizeof *port);
	if (!port)
		return false;
	__be16 from = *port;
#ifdef VINI_XDP
	*port = to;
	return transport_fix(p, check, from, to, protocol == IPPROTO_UDP);
#else
	__u64 how = sizeof to | (protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0);
	if (bpf_l4_csum_replace(p->ctx, check, from, to, how) || bpf_skb_store_bytes(p->ctx, field, &to, sizeof to, 0))
		return false;
	packet_look(p);
	return true;
#endif
}

/* ---- longer and shorter packets --------------------------------------------------------------------------------- */

static __always_inline bool packet_name(struct packet *p, __u16 protocol)
{
	struct ethhdr *e = packet_at(p, 0, sizeof *e);
	if (!e)
		return false;
	e->h_proto = bpf_htons(protocol);
	return true;
}

#ifdef VINI_XDP
static __always_inline bool packet_move(struct packet *p, int size, __u64 how)
{
	struct ethhdr kept, *e = packet_at(p, 0, sizeof *e + (size < 0 ? -size : 0));
	if (!e)
		return false;
	kept = *e;
	if (bpf_xdp_adjust_head(p->ctx, -size))
		return false;
	packet_look(p);
	e = packet_at(p, 0, sizeof *e);
	if (!e)
		return false;
	*e = kept;
	return true;
}

static __always_inline bool packet_rename(struct packet *p, __u16 protocol)
{
	return packet_name(p, protocol);
}
#else
/* Lets the kernel's own idea of the packet's protocol (skb->protocol) become that of the Ethernet header.  There is no
 * helper for it: but a VLAN tag that is taken out of the packet leaves behind the protocol that was under it, and a tag
 * is only written into the packet when a second one comes on top of it. */
static __noinline UNUSED int kernel_rename(context *ctx)
{
	return ctx->vlan_present || bpf_skb_vlan_push(ctx, bpf_htons(ETH_P_8021Q), 1) ||
	       bpf_skb_vlan_push(ctx, bpf_htons(ETH_P_8021Q), 1) || bpf_skb_vlan_pop(ctx) || bpf_skb_vlan_pop(ctx);
}

static __always_inline bool packet_rename(struct packet *p, __u16 protocol)
{
	if (!packet_name(p, protocol))
		return false;
	if (p->ctx->protocol == bpf_htons(protocol))
		return true;
	if (kernel_rename(p->ctx))
		return false;
	packet_gather(p);
	return true;
}

/* bpf_skb_adjust_room only moves what the kernel takes for IP. */
static __always_inline bool packet_move(struct packet *p, int size, __u64 how)
{
	__u32 protocol = p->ctx->protocol;
	if (protocol != bpf_htons(ETH_P_IP) && protocol != bpf_htons(ETH_P_IPV6) && !packet_rename(p, ETH_P_IP))
		return false;
	/* large segments of TCP are cut smaller; those of UDP can't be, and stay as they are */
	bool failed = bpf_skb_adjust_room(p->ctx, size, BPF_ADJ_ROOM_MAC, how) &&
		      bpf_skb_adjust_room(p->ctx, size, BPF_ADJ_ROOM_MAC, how | BPF_F_ADJ_ROOM_FIXED_GSO);
	packet_gather(p);
	return !failed;
}
#endif

/* Room for `size` bytes, of any content, behind the Ethernet header, which then names `protocol`.  Large segments are
 * refused (false): the kernel would not know how to cut them. */
static __always_inline bool packet_insert(struct packet *p, __u32 size, __u16 protocol)
{
	return !packet_is_large(p) && packet_move(p, (int)size, 0) && packet_rename(p, protocol);
}

/* Kinds of tunnels, as bpf_skb_adjust_room takes them: what is between the outer and the inner packet. */
#define TUNNEL_IP BPF_F_ADJ_ROOM_ENCAP_L3_IPV4
#define TUNNEL_GRE (TUNNEL_IP | BPF_F_ADJ_ROOM_ENCAP_L4_GRE)
#define TUNNEL_VXLAN \
	(TUNNEL_IP | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2_ETH | BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN))

/* Room for an outer IPv4 header and more, which the kernel knows to put before every part of a large segment.  It
 * remembers for good that a packet was wrapped, and refuses to wrap it again; but where the packet came out of a tunnel
 * of the same kind, what it remembers is right again as soon as the room is there. */
static __always_inline bool packet_wrap(struct packet *p, __u32 size, __u64 tunnel)
{
	bool large = packet_is_large(p);
	if (large && packet_move(p, (int)size, tunnel))
		return packet_rename(p, ETH_P_IP);
	packet_look(p);
	return (!large || p->unwrapped == tunnel) && packet_move(p, (int)size, 0) && packet_rename(p, ETH_P_IP);
}

/* Takes `size` bytes away behind the Ethernet header, which then names `protocol`. */
static __always_inline bool packet_remove(struct packet *p, __u32 size, __u16 protocol)
{
	return packet_move(p, -(int)size, 0) && packet_rename(p, protocol);
}

/* The inverse of packet_wrap(). */
static __always_inline bool packet_unwrap(struct packet *p, __u32 size, __u16 protocol, __u64 tunnel)
{
	p->unwrapped = tunnel;
	return packet_remove(p, size, protocol);
}

/* An outer IPv4 header in the room that packet_wrap() made; not to be fragmented. */
static __always_inline bool packet_outer(struct packet *p, __be32 from, __be32 to, __u8 protocol)
{
	struct iphdr *ip = packet_at(p, ETH_HLEN, sizeof *ip);
	if (!ip)
		return false;
	*ip = (struct iphdr){.version = 4, .ihl = 5, .tot_len = bpf_htons((__u16)(packet_length(p) - ETH_HLEN)),
		.frag_off = bpf_htons(0x4000), .ttl = 64, .protocol = protocol, .saddr = from, .daddr = to};
	ip->check = ip_checksum(ip);
	return true;
}

/* The protocol of an IP packet at `offset`, by its version; 0 where it is none. */
static __always_inline __u16 packet_version(const struct packet *p, __u32 offset)
{
	const __u8 *first = packet_at(p, offset, 1);
	__u8 version = first ? *first >> 4 : 0;
	return version == 4 ? ETH_P_IP : version == 6 ? ETH_P_IPV6 : 0;
}

/* ---- the ways out -------------------------------------------------------------------------------------- */

/* Towards the other end of the link at that vif, 1 for the first one; false where there is none.  The packet's Ethernet
 * addresses are written when it leaves: the kernel must see those that it came with. */
static __always_inline bool packet_towards(struct packet *p, __u32 vif)
{
	__u32 slot = vif - 1;
	const struct vif *v = bpf_map_lookup_elem(&vifs, &slot);
	if (!v || !v->ifindex)
		return false;
	p->way = v;
	return true;
}

static __always_inline int packet_leave(struct packet *p)
{
	const struct vif *way = p->way;
	if (!way)
		return p->leaving ? VERDICT_KERNEL : VERDICT_DROP;
	struct ethhdr *e = packet_at(p, 0, sizeof *e);
	if (!e)
		return VERDICT_DROP;
	__builtin_memcpy(e->h_dest, way->peer, ETH_ALEN);
	__builtin_memcpy(e->h_source, way->mac, ETH_ALEN);
	if (p->leaving && way->ifindex == packet_ifindex(p))
		return VERDICT_KERNEL; /* it is on its way out there: go on */
	return (int)bpf_redirect(way->ifindex, 0);
}
