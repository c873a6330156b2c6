/* push-label: put an MPLS label on IPv4 packets
 *
 * The edge of a label-switched path (RFC 3031): looks the IPv4 destination up in `labels`, puts the label behind the
 * Ethernet header with the IP time to live, and sends the packet by that vif.
 *
 * outputs: out
 *   none  no prefix fits, or it is not IPv4
 * counters: pushed  packets that got a label
 *   misses  no prefix fits, or it is not IPv4
 *   lost  large segments, or no room
 * tables: labels: lpm[4096] ip4 -> label:label, out:way  prefix to label and way
 * inserts: 4 bytes
 * example: input -> l :: push-label(labels={10.9.0.0/16 = 100 to-b}) -> out
 *   l[none] -> kernel
 */
ELEMENT int push_label(struct packet *p, const struct push_label_parameters *c, __u32 counters, void *labels)
{
	const struct push_label_labels *found = packet_route4(p, labels);
	const struct iphdr *ip = packet_ip(p);
	if (!ip || !found || !packet_towards(p, found->out)) {
		packet_count(p, counters + push_label_misses);
		return PUSH_LABEL_NONE;
	}
	__u32 entry = found->label << 12 | 0x100 | ip->ttl; /* label, bottom of the stack, time to live (RFC 3032) */
	__be32 *label = NULL;
	if (packet_insert(p, sizeof *label, PROTOCOL_MPLS))
		label = packet_at(p, ETH_HLEN, sizeof *label);
	if (!label) {
		packet_count(p, counters + push_label_lost);
		return -1;
	}
	*label = bpf_htonl(entry);
	packet_count(p, counters + push_label_pushed);
	return PUSH_LABEL_OUT;
}
