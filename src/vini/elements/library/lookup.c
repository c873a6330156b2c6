/* lookup: choose the way out by the kernel's forwarding table
 *
 * Looks the IPv4 or IPv6 destination up in the sliver's own forwarding table, which its routing daemons write, and
 * addresses the packet to the next hop (bpf_fib_lookup, bpf-helpers(7)). Where the kernel has several equal routes
 * it chooses by the flow. What the kernel must see itself leaves by `kernel`: packets for the sliver, next
 * hops whose address isn't known yet, prohibited destinations, packets that are too long, IPv4 options.
 *
 * outputs: out
 *   kernel  the kernel should handle it
 * counters: hits  found
 *   misses  left to the kernel
 * example: input -> l :: lookup -> ttl :: dec-ttl -> out
 *   l[kernel] -> kernel
 *   ttl[expired] -> kernel
 */
/* Whole packets of TCP and UDP have ports, which the kernel's choice among equal routes may depend on. */
ELEMENT void lookup_ports(const struct packet *p, struct bpf_fib_lookup *f, __u32 transport)
{
	const __be16 *ports = packet_at(p, transport, 4);
	if (ports && (f->l4_protocol == IPPROTO_TCP || f->l4_protocol == IPPROTO_UDP)) {
		f->sport = ports[0];
		f->dport = ports[1];
	}
}

ELEMENT bool lookup_by(const struct packet *p, struct bpf_fib_lookup *f)
{
	const struct iphdr *ip = packet_ip(p);
	const struct ipv6hdr *ip6 = packet_ip6(p);
	if (ip && ip->ihl == 5) {
		f->family = AF_INET;
		f->l4_protocol = ip->protocol;
		f->tos = ip->tos & 0x1c; /* as the kernel: without ECN and the old precedence bits */
		f->tot_len = bpf_ntohs(ip->tot_len);
		f->ipv4_src = ip->saddr;
		f->ipv4_dst = ip->daddr;
		if (!ip_is_fragment(ip))
			lookup_ports(p, f, ETH_HLEN + sizeof *ip);
	} else if (ip6) {
		f->family = AF_INET6;
		f->l4_protocol = ip6->nexthdr;
		f->tot_len = bpf_ntohs(ip6->payload_len) + sizeof *ip6;
		f->flowinfo = *(const __be32 *)ip6 & bpf_htonl(0x0fffffff);
		__builtin_memcpy(f->ipv6_src, &ip6->saddr, 16);
		__builtin_memcpy(f->ipv6_dst, &ip6->daddr, 16);
		lookup_ports(p, f, ETH_HLEN + sizeof *ip6);
	} else {
		return false;
	}
	if (packet_is_large(p))
		f->tot_len = 0; /* it will be cut: its parts fit */
	return true;
}

ELEMENT int lookup(struct packet *p, const struct lookup_parameters *c, __u32 counters)
{
	struct bpf_fib_lookup f = {.ifindex = packet_ifindex(p)};
	if (!lookup_by(p, &f) || bpf_fib_lookup(p->ctx, &f, sizeof f, 0) != BPF_FIB_LKUP_RET_SUCCESS) {
		packet_count(p, counters + lookup_misses);
		return LOOKUP_KERNEL;
	}
	p->found.ifindex = f.ifindex;
	__builtin_memcpy(p->found.mac, f.smac, ETH_ALEN);
	__builtin_memcpy(p->found.peer, f.dmac, ETH_ALEN);
	p->way = &p->found;
	packet_count(p, counters + lookup_hits);
	return LOOKUP_OUT;
}
