/* route6: choose the way out by an IPv6 longest-prefix-match table of its own
 *
 * As `route4`, for IPv6.
 *
 * outputs: out
 *   none  no prefix fits, or it is not IPv6
 * counters: hits  found
 *   misses  no prefix fits, or it is not IPv6
 * tables: routes: lpm[16384] ip6 -> out:way  prefix to the vif that leads there
 * example: input -> r :: route6(routes={fd00::/8 = to-b, default = to-c}) -> out
 *   r[none] -> kernel
 */
ELEMENT int route6(struct packet *p, const struct route6_parameters *c, __u32 counters, void *routes)
{
	const struct ipv6hdr *ip = packet_ip6(p);
	if (ip) {
		struct prefix6 key = {128, ip->daddr};
		const struct route6_routes *found = bpf_map_lookup_elem(routes, &key);
		if (found && packet_towards(p, found->out)) {
			packet_count(p, counters + route6_hits);
			return ROUTE6_OUT;
		}
	}
	packet_count(p, counters + route6_misses);
	return ROUTE6_NONE;
}
