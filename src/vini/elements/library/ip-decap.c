/* ip-decap: take IPv4 packets out of IPv4
 *
 * The other end of `ip-encap`: takes the outer header off packets of the protocol 4 (RFC 2003) that come from `remote`
 * to `local`. Fragments are not put together.
 *
 * outputs: out
 *   other  no such packet, or a fragment of one
 * parameters: local: ip4  this end of the tunnel
 *   remote: ip4  the other end
 * counters: unwrapped  packets
 * example: input -> t :: ip-decap(local=192.0.2.2, remote=192.0.2.1) -> kernel
 *   t[other] -> kernel
 */
ELEMENT int ip_decap(struct packet *p, const struct ip_decap_parameters *c, __u32 counters)
{
	const struct iphdr *ip = packet_ip(p);
	if (!ip || ip->ihl != 5 || ip->protocol != IPPROTO_IPIP || ip_is_fragment(ip) || ip->saddr != c->remote ||
	    ip->daddr != c->local || packet_version(p, ETH_HLEN + sizeof *ip) != ETH_P_IP)
		return IP_DECAP_OTHER;
	if (!packet_unwrap(p, sizeof *ip, ETH_P_IP, TUNNEL_IP))
		return -1;
	packet_count(p, counters + ip_decap_unwrapped);
	return IP_DECAP_OUT;
}
