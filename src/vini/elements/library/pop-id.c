/* pop-id: take the identifiers off
 *
 * Takes off the header that `push-id` wrote; what is under it is as it was.
 *
 * outputs: out
 *   other  no such header
 * counters: popped  packets
 * example: input -> i :: pop-id -> kernel
 *   i[other] -> kernel
 */
ELEMENT int pop_id(struct packet *p, const struct pop_id_parameters *c, __u32 counters)
{
	const struct id_header *h = packet_header(p, PROTOCOL_ID, sizeof *h);
	if (!h)
		return POP_ID_OTHER;
	if (!packet_remove(p, sizeof *h, bpf_ntohs(h->protocol)))
		return -1;
	packet_count(p, counters + pop_id_popped);
	return POP_ID_OUT;
}
