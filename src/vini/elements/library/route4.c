/* route4: choose the way out by an IPv4 longest-prefix-match table of its own
 *
 * Looks the IPv4 destination up in `routes`, which the program's owner writes (the kernel's forwarding table plays
 * no part). A found packet is addressed to the other end of that vif's link, so no ARP is needed. A prefix whose vif
 * is `-` leaves by `none`, to the kernel for example: beside a default route the sliver's own addresses need one, and
 * 224.0.0.0/4 where routing daemons speak.
 *
 * outputs: out
 *   none  no prefix fits, or one without a vif, or it is not IPv4
 * counters: hits  found
 *   misses  no prefix fits, or it is not IPv4
 * tables: routes: lpm[16384] ip4 -> out:way  prefix to the vif that leads there
 * example: input -> r :: route4(routes={10.0.0.0/8 = to-b, default = to-c}) -> out
 *   r[none] -> kernel
 */
ELEMENT int route4(struct packet *p, const struct route4_parameters *c, __u32 counters, void *routes)
{
	const struct route4_routes *found = packet_route4(p, routes);
	if (found && packet_towards(p, found->out)) {
		packet_count(p, counters + route4_hits);
		return ROUTE4_OUT;
	}
	packet_count(p, counters + route4_misses);
	return ROUTE4_NONE;
}
