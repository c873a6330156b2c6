/* nat: hide IPv4 senders behind one address
 *
 * Source translation with ports (RFC 3022) of TCP, UDP and ICMP echo, in both directions: packets to `address` are
 * looked up and translated back (`in`), all others are translated (`out`). A flow gets a port of the range by its hash, the
 * next free one of eight; flows that were not seen for the longest time make room for new ones. What can't be
 * translated leaves by `other`, unchanged: packets to `address` that belong to no flow, fragments, other
 * protocols, ICMP errors.
 *
 * outputs: out
 *   in  towards the inside
 *   other  not translated
 * parameters: address: ip4  the one address that the outside sees
 *   ports: ports = 1024-65535  that it may use
 * counters: outward  translated packets
 *   inward  translated packets
 *   full  packets of new flows that found no free port
 * tables: flows: lru[65536] flow -> address:ip4, port:port  a flow, as it arrives, to its other address and port
 * writes: flows
 * example: input -> n :: nat(192.0.2.1)
 *   n[out] -> out(to-b)
 *   n[in] -> out(to-c)
 *   n[other] -> kernel
 */
struct nat_packet {
	struct flow4 flow;       /* as it arrives */
	__u32 check;             /* where its transport checksum is */
	__u32 port;              /* where the port is that may be translated */
};

/* Ports of TCP and UDP, or the identifier of an ICMP echo as the sender's port (request) or the receiver's (reply). */
ELEMENT bool nat_read(const struct packet *p, bool inward, struct nat_packet *n)
{
	const struct iphdr *ip = packet_ip(p);
	n->check = packet_check(p);
	if (!ip || !n->check)
		return false;
	__u32 transport = ip_transport(ip);
	n->flow = (struct flow4){.from = ip->saddr, .to = ip->daddr, .protocol = ip->protocol};
	if (ip->protocol == IPPROTO_ICMP) {
		const struct icmp_echo *icmp = packet_at(p, transport, sizeof *icmp);
		if (!icmp || icmp->type != (inward ? ICMP_REPLY : ICMP_REQUEST))
			return false;
		*(inward ? &n->flow.to_port : &n->flow.from_port) = icmp->id;
		n->port = transport + offsetof(struct icmp_echo, id);
		return true;
	}
	const __be16 *ports = packet_at(p, transport, 4);
	if (!ports || !packet_at(p, n->check, 2))
		return false;
	n->flow.from_port = ports[0];
	n->flow.to_port = ports[1];
	n->port = transport + (inward ? 2 : 0);
	return true;
}

/* The flow that answers will belong to. */
ELEMENT struct flow4 nat_answer(const struct flow4 *f, __be32 address, __be16 port)
{
	return (struct flow4){.from = f->to, .to = address, .from_port = f->to_port, .to_port = port, .protocol = f->protocol};
}

/* Whether answers to that flow lead back to this one: they did already, or nobody else's do. */
ELEMENT bool nat_claim(const struct flow4 *answer, const struct nat_flows *back, void *flows)
{
	const struct nat_flows *taken = bpf_map_lookup_elem(flows, answer);
	if (taken)
		return taken->address == back->address && taken->port == back->port;
	return !bpf_map_update_elem(flows, answer, back, BPF_NOEXIST);
}

/* A port for a new flow, in network order; 0 where none is free. */
ELEMENT __be16 nat_new(const struct flow4 *f, const struct nat_parameters *c, void *flows)
{
	const struct nat_flows back = {.address = f->from, .port = f->from_port};
	__u32 range = c->ports.last - c->ports.first + 1u;
	__u64 seed = (__u64)f->from << 32 | f->to;
	__u32 hash = mixed(seed ^ ((__u64)f->from_port << 32 | (__u64)f->to_port << 8 | f->protocol));
	for (__u32 i = 0; i < 8; i++) {
		__be16 port = bpf_htons((__u16)(c->ports.first + (hash + i) % range));
		struct flow4 answer = nat_answer(f, c->address, port);
		struct nat_flows there = {.address = c->address, .port = port};
		if (port && nat_claim(&answer, &back, flows) && !bpf_map_update_elem(flows, f, &there, BPF_ANY))
			return port;
	}
	return 0;
}

/* The port of a flow's packets.  The answers' entry is looked at too, so that it does not age while this one lives;
 * where it has made room for another flow, this one must find a new port. */
ELEMENT __be16 nat_port(const struct flow4 *f, const struct nat_parameters *c, void *flows)
{
	const struct nat_flows *known = bpf_map_lookup_elem(flows, f);
	if (known) {
		__be16 port = known->port;
		struct flow4 answer = nat_answer(f, c->address, port);
		const struct nat_flows *back = bpf_map_lookup_elem(flows, &answer);
		if (back && back->address == f->from && back->port == f->from_port)
			return port;
	}
	return nat_new(f, c, flows);
}

ELEMENT int nat(struct packet *p, const struct nat_parameters *c, __u32 counters, void *flows)
{
	struct nat_packet n = {};
	const struct iphdr *ip = packet_ip(p);
	if (!ip)
		return NAT_OTHER;
	bool inward = ip->daddr == c->address;
	if (!nat_read(p, inward, &n))
		return NAT_OTHER;
	struct nat_flows other = {.address = c->address};
	if (inward) {
		const struct nat_flows *found = bpf_map_lookup_elem(flows, &n.flow);
		if (!found)
			return NAT_OTHER;
		other = *found;
	} else {
		other.port = nat_port(&n.flow, c, flows);
		if (!other.port) {
			packet_count(p, counters + nat_full);
			return NAT_OTHER;
		}
	}
	__u32 address = ETH_HLEN + (inward ? offsetof(struct iphdr, daddr) : offsetof(struct iphdr, saddr));
	if (!packet_set4(p, address, other.address, n.check, n.flow.protocol) ||
	    !packet_set_port(p, n.port, other.port, n.check, n.flow.protocol))
		return -1;
	packet_count(p, counters + (inward ? nat_inward : nat_outward));
	return inward ? NAT_IN : NAT_OUT;
}
