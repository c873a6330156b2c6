/* acl: permit and deny packets by rules, in order
 *
 * The first rule that fits decides; where none does, the packet is denied. A rule has an action, a transport
 * protocol, the sender's and the receiver's prefix (IPv4 or IPv6), and the receiver's ports; what is left out at its
 * end is `any`. Ports are those of TCP and UDP; other packets, and fragments behind the first, have port 0. What is not IP
 * leaves by `other`.
 *
 * outputs: permit
 *   deny  a deny rule fits, or none
 *   other  it is not IP
 * counters: permitted  packets
 *   denied  packets
 * tables: rules: array[64] u32 -> action:action, protocol:transport=any, from:prefix=any, to:prefix=any, ports:ports=any  in order
 * example: input -> a :: acl(rules=[permit tcp any 10.0.0.0/8 80-443, deny tcp, permit])
 *   a[permit] -> kernel
 *   a[deny] -> drop
 *   a[other] -> kernel
 */
ELEMENT bool acl_within(const union address *a, const struct prefix *p)
{
	return (a->halves[0] & p->mask.halves[0]) == p->address.halves[0] &&
	       (a->halves[1] & p->mask.halves[1]) == p->address.halves[1];
}

ELEMENT bool acl_fits(const struct acl_rules *r, const struct flow *f)
{
	return (!r->protocol || r->protocol == f->protocol) && r->ports.first <= f->to_port &&
	       f->to_port <= r->ports.last && acl_within(&f->from, &r->from) && acl_within(&f->to, &r->to);
}

ELEMENT bool acl_permits(const struct flow *f, void *rules)
{
	for (__u32 i = 0; i < 64; i++) {
		__u32 number = i; /* the verifier loses count of a variable that a helper has seen */
		const struct acl_rules *r = bpf_map_lookup_elem(rules, &number);
		if (!r || !r->action)
			return false;
		if (acl_fits(r, f))
			return r->action == 1;
	}
	return false;
}

ELEMENT int acl(struct packet *p, const struct acl_parameters *c, __u32 counters, void *rules)
{
	struct flow f;
	if (!packet_flow(p, &f))
		return ACL_OTHER;
	bool permits = acl_permits(&f, rules);
	packet_count(p, counters + (permits ? acl_permitted : acl_denied));
	return permits ? ACL_PERMIT : ACL_DENY;
}
