/* swap-label: forward by MPLS label
 *
 * The inside of a label-switched path (RFC 3031): looks the top label up in `labels`, puts the new one in its place,
 * counts the label's time to live down, and sends the packet by that vif.
 *
 * outputs: out
 *   expired  time to live 1 or 0
 *   none  a label that is not in `labels`, or not MPLS
 * counters: swapped  forwarded
 *   misses  a label that is not in `labels`, or not MPLS
 * tables: labels: hash[4096] label -> label:label, out:way  label to the next label and way
 * example: input -> l :: swap-label(labels={100 = 200 to-b}) -> out
 *   l[expired] -> drop
 *   l[none] -> kernel
 */
ELEMENT int swap_label(struct packet *p, const struct swap_label_parameters *c, __u32 counters, void *labels)
{
	__be32 *label = packet_header(p, PROTOCOL_MPLS, sizeof *label);
	if (label) {
		__u32 entry = bpf_ntohl(*label), top = entry >> 12;
		const struct swap_label_labels *found = bpf_map_lookup_elem(labels, &top);
		if (found && (entry & 0xff) <= 1)
			return SWAP_LABEL_EXPIRED;
		if (found && packet_towards(p, found->out)) {
			*label = bpf_htonl(found->label << 12 | ((entry & 0xfff) - 1));
			packet_count(p, counters + swap_label_swapped);
			return SWAP_LABEL_OUT;
		}
	}
	packet_count(p, counters + swap_label_misses);
	return SWAP_LABEL_NONE;
}
