/* dec-ttl: count down the IP time to live
 *
 * Decrements the IPv4 time to live (and adjusts the header's checksum, RFC 1624) or the IPv6 hop limit. Packets
 * whose time is up leave by `expired`, unchanged: `expired -> kernel` lets the sliver's stack answer with ICMP.
 * What is neither IPv4 nor IPv6 passes as it is.
 *
 * outputs: out
 *   expired  time to live 1 or 0
 * counters: expired  packets whose time was up
 * example: input -> ttl :: dec-ttl -> out(to-b)
 *   ttl[expired] -> kernel
 */
ELEMENT int dec_ttl(struct packet *p, const struct dec_ttl_parameters *c, __u32 counters)
{
	struct iphdr *ip = packet_ip(p);
	if (ip) {
		if (ip->ttl > 1) {
			__u32 check = ip->check + bpf_htons(0x0100);
			ip->check = (__u16)(check + (check >= 0xffff));
			ip->ttl--;
			return DEC_TTL_OUT;
		}
	} else {
		struct ipv6hdr *ip6 = packet_ip6(p);
		if (!ip6)
			return DEC_TTL_OUT;
		if (ip6->hop_limit > 1) {
			ip6->hop_limit--;
			return DEC_TTL_OUT;
		}
	}
	packet_count(p, counters + dec_ttl_expired);
	return DEC_TTL_EXPIRED;
}
