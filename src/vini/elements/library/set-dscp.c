/* set-dscp: write the DSCP of IP packets
 *
 * Sets the six bits of the differentiated services code point (RFC 2474) of IPv4 and IPv6, and leaves the two of
 * ECN as they are. What is not IP passes as it is.
 *
 * outputs: out
 * parameters: value: dscp  0..63, or ef, af11, af21, af31, af41, cs1, cs6, default
 * example: input -> set-dscp(ef) -> kernel
 */
ELEMENT int set_dscp(struct packet *p, const struct set_dscp_parameters *c, __u32 counters)
{
	struct iphdr *ip = packet_ip(p);
	if (ip) {
		__be16 *first = (__be16 *)ip; /* version, length, and the field */
		__be16 from = *first, to = (from & bpf_htons(0xff03)) | bpf_htons((__u16)(c->value << 2));
		*first = to;
		ip->check = checksum_after(ip->check, from, to);
		return SET_DSCP_OUT;
	}
	struct ipv6hdr *ip6 = packet_ip6(p);
	if (ip6) {
		__be16 *first = (__be16 *)ip6; /* version, the field, and four bits of the flow label */
		*first = (*first & bpf_htons(0xf03f)) | bpf_htons((__u16)(c->value << 6));
	}
	return SET_DSCP_OUT;
}
