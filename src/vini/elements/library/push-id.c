/* push-id: send IPv4 packets by the identifier of who they are for
 *
 * The edge of a network that forwards by flat identifiers, which say who somebody is and not where (as in ROFL,
 * SIGCOMM 2006): looks the IPv4 destination up in `ids` and puts a header with both identifiers behind the Ethernet
 * header. `route-id` forwards by it; when somebody moves, only tables of identifiers change, no address does.
 *
 *     0               2       3       4               8              12
 *     | protocol      | hops  | 0     | to            | from         |     Ethernet protocol 0x88b6
 *
 * outputs: out
 *   none  no prefix fits, or it is not IPv4
 * parameters: from: u32 = 0  the identifier of this side, for answers
 *   hops: u8 = 64  how many routers it may pass
 * counters: pushed  packets that got identifiers
 *   misses  no prefix fits, or it is not IPv4
 *   lost  large segments, or no room
 * tables: ids: lpm[4096] ip4 -> id:u32  prefix to the identifier of who has it
 * inserts: 12 bytes
 * example: input -> i :: push-id(from=7, ids={10.9.0.0/16 = 9}) -> out(to-b)
 *   i[none] -> kernel
 */
ELEMENT int push_id(struct packet *p, const struct push_id_parameters *c, __u32 counters, void *ids)
{
	const struct push_id_ids *found = packet_route4(p, ids);
	if (!found) {
		packet_count(p, counters + push_id_misses);
		return PUSH_ID_NONE;
	}
	struct id_header *h = NULL;
	if (packet_insert(p, sizeof *h, PROTOCOL_ID))
		h = packet_at(p, ETH_HLEN, sizeof *h);
	if (!h) {
		packet_count(p, counters + push_id_lost);
		return -1;
	}
	*h = (struct id_header){bpf_htons(ETH_P_IP), c->hops, 0, bpf_htonl(found->id), bpf_htonl(c->from)};
	packet_count(p, counters + push_id_pushed);
	return PUSH_ID_OUT;
}
