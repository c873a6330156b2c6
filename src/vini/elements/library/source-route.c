/* source-route: forward by the route that the packet carries
 *
 * Takes the next hop of the header that `push-route` wrote, and sends the packet by the vif that `ways` has for that
 * number. Behind the last hop the header is taken off, and the packet leaves by `end`.
 *
 * outputs: out
 *   end  the route is at its end: the packet as it was
 *   none  a hop that is not in `ways`, or no such header
 * counters: hits  forwarded
 *   ends  routes at their end
 *   misses  a hop that is not in `ways`, or no such header
 * tables: ways: hash[256] u8 -> out:way  number of a hop to the vif
 * example: input -> r :: source-route(ways={1 = to-b, 2 = to-c}) -> out
 *   r[end] -> kernel
 *   r[none] -> drop
 */
ELEMENT int source_route(struct packet *p, const struct source_route_parameters *c, __u32 counters, void *ways)
{
	struct route_header *r = packet_header(p, PROTOCOL_ROUTE, sizeof *r);
	if (r && r->next >= r->count) {
		if (!packet_remove(p, sizeof *r, bpf_ntohs(r->protocol)))
			return -1;
		packet_count(p, counters + source_route_ends);
		return SOURCE_ROUTE_END;
	}
	const __u8 *hop = NULL;
	if (r && r->next < sizeof r->hops)
		hop = packet_at(p, ETH_HLEN + offsetof(struct route_header, hops) + r->next, 1);
	if (hop) {
		__u8 number = *hop;
		const struct source_route_ways *way = bpf_map_lookup_elem(ways, &number);
		if (way && packet_towards(p, way->out)) {
			r->next++;
			packet_count(p, counters + source_route_hits);
			return SOURCE_ROUTE_OUT;
		}
	}
	packet_count(p, counters + source_route_misses);
	return SOURCE_ROUTE_NONE;
}
