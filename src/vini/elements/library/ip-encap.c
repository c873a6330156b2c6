/* ip-encap: wrap IPv4 packets in IPv4
 *
 * Puts an IPv4 header (RFC 2003) with these addresses in front of an IPv4 packet; `lookup` or `out(VIF)` behind it
 * sends it there. Large segments are kept. The link's MTU must have room for 20 bytes more.
 *
 * outputs: out
 *   other  it is not IPv4
 * parameters: local: ip4  this end of the tunnel
 *   remote: ip4  the other end
 * counters: wrapped  packets
 *   lost  no room, or a large segment that was in another kind of tunnel before
 * example: input -> t :: ip-encap(local=192.0.2.1, remote=192.0.2.2) -> out(to-b)
 *   t[other] -> drop
 */
ELEMENT int ip_encap(struct packet *p, const struct ip_encap_parameters *c, __u32 counters)
{
	if (!packet_ip(p))
		return IP_ENCAP_OTHER;
	if (packet_wrap(p, sizeof(struct iphdr), TUNNEL_IP) && packet_outer(p, c->local, c->remote, IPPROTO_IPIP)) {
		packet_count(p, counters + ip_encap_wrapped);
		return IP_ENCAP_OUT;
	}
	packet_count(p, counters + ip_encap_lost);
	return -1;
}
