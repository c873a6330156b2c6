/* push-route: write a packet's whole way into it
 *
 * The edge of source routing: puts a header behind the Ethernet header, with the hops that `routes` holds for the
 * IPv4 destination. Each router on the way (`source-route`) takes the next hop's number and sends the packet by the vif
 * that it knows by this number: it needs no forwarding table.
 *
 *     0               2       3       4                        12
 *     | protocol      | next  | count | hops: eight of a byte  |     Ethernet protocol 0x88b5
 *
 * `next` counts the hops that are done. The vif `out` leads to the first router.
 *
 * outputs: out
 *   none  no prefix fits, or it is not IPv4
 * counters: sent  packets that got a route
 *   misses  no prefix fits, or it is not IPv4
 *   lost  large segments, or no room
 * tables: routes: lpm[4096] ip4 -> out:way, hops:hops  prefix to the first link and the hops behind it
 * inserts: 12 bytes
 * example: input -> r :: push-route(routes={10.9.0.0/16 = to-b 1/2/1}) -> out
 *   r[none] -> kernel
 */
ELEMENT int push_route(struct packet *p, const struct push_route_parameters *c, __u32 counters, void *routes)
{
	const struct push_route_routes *found = packet_route4(p, routes);
	if (!found || !packet_towards(p, found->out)) {
		packet_count(p, counters + push_route_misses);
		return PUSH_ROUTE_NONE;
	}
	struct route_header *r = NULL;
	if (packet_insert(p, sizeof *r, PROTOCOL_ROUTE))
		r = packet_at(p, ETH_HLEN, sizeof *r);
	if (!r) {
		packet_count(p, counters + push_route_lost);
		return -1;
	}
	r->protocol = bpf_htons(ETH_P_IP);
	r->next = 0;
	r->count = found->hops[0];
	__builtin_memcpy(r->hops, found->hops + 1, sizeof r->hops);
	packet_count(p, counters + push_route_sent);
	return PUSH_ROUTE_OUT;
}
