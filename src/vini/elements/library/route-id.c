/* route-id: forward by flat identifier
 *
 * Looks the receiver's identifier of the header that `push-id` wrote up in `ids`, counts the hops down, and sends the
 * packet by that vif. A packet for `self` leaves by `self`, where `pop-id` takes the header off.
 *
 * outputs: out
 *   self  for this sliver
 *   expired  no hops left
 *   none  an identifier that is not in `ids`, or no such header
 * parameters: self: u32 = 0  the sliver's own identifier
 * counters: hits  forwarded
 *   misses  an identifier that is not in `ids`, or no such header
 * tables: ids: hash[16384] u32 -> out:way  identifier to the vif that leads there
 * example: input -> i :: route-id(self=7, ids={9 = to-b}) -> out
 *   i[self] -> drop
 *   i[expired] -> drop
 *   i[none] -> kernel
 */
ELEMENT int route_id(struct packet *p, const struct route_id_parameters *c, __u32 counters, void *ids)
{
	struct id_header *h = packet_header(p, PROTOCOL_ID, sizeof *h);
	if (h) {
		__u32 to = bpf_ntohl(h->to);
		if (to == c->self)
			return ROUTE_ID_SELF;
		const struct route_id_ids *found = bpf_map_lookup_elem(ids, &to);
		if (found && h->hops <= 1)
			return ROUTE_ID_EXPIRED;
		if (found && packet_towards(p, found->out)) {
			h->hops--;
			packet_count(p, counters + route_id_hits);
			return ROUTE_ID_OUT;
		}
	}
	packet_count(p, counters + route_id_misses);
	return ROUTE_ID_NONE;
}
