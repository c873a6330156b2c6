/* pop-label: take the top MPLS label off
 *
 * The end of a label-switched path: under the last label is the IP packet, as it was when it got its label; its
 * time to live is not changed (the pipe model, RFC 3443). Under another label the packet stays MPLS.
 *
 * outputs: out
 *   other  not MPLS, or neither a label nor IP under it
 * counters: popped  packets
 * example: input -> l :: pop-label -> kernel
 *   l[other] -> kernel
 */
ELEMENT int pop_label(struct packet *p, const struct pop_label_parameters *c, __u32 counters)
{
	const __be32 *label = packet_header(p, PROTOCOL_MPLS, sizeof *label);
	if (!label)
		return POP_LABEL_OTHER;
	bool bottom = *label & bpf_htonl(0x100);
	__u16 protocol = bottom ? packet_version(p, ETH_HLEN + sizeof *label) : PROTOCOL_MPLS;
	if (!protocol)
		return POP_LABEL_OTHER;
	if (!packet_remove(p, sizeof *label, protocol))
		return -1;
	packet_count(p, counters + pop_label_popped);
	return POP_LABEL_OUT;
}
