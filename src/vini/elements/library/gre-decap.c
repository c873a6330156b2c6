/* gre-decap: take IP packets out of GRE with a key
 *
 * The other end of `gre-encap`: takes the IPv4 and the GRE header off packets from `remote` to `local` with this key
 * and no other options. Fragments are not put together.
 *
 * outputs: out
 *   other  no such packet, or a fragment of one
 * parameters: local: ip4  this end of the tunnel
 *   remote: ip4  the other end
 *   key: u32  the same at both ends
 * counters: unwrapped  packets
 * example: input -> t :: gre-decap(local=192.0.2.2, remote=192.0.2.1, key=7) -> kernel
 *   t[other] -> kernel
 */
ELEMENT int gre_decap(struct packet *p, const struct gre_decap_parameters *c, __u32 counters)
{
	const struct iphdr *ip = packet_ip(p);
	if (!ip || ip->ihl != 5 || ip->protocol != IPPROTO_GRE || ip_is_fragment(ip) || ip->saddr != c->remote ||
	    ip->daddr != c->local)
		return GRE_DECAP_OTHER;
	const struct gre_header *g = packet_at(p, ETH_HLEN + sizeof *ip, sizeof *g);
	__u16 protocol = packet_version(p, ETH_HLEN + sizeof *ip + sizeof *g);
	if (!g || g->flags != bpf_htons(GRE_KEY) || g->key != bpf_htonl(c->key) || !protocol ||
	    g->protocol != bpf_htons(protocol))
		return GRE_DECAP_OTHER;
	if (!packet_unwrap(p, sizeof *ip + sizeof *g, protocol, TUNNEL_GRE))
		return -1;
	packet_count(p, counters + gre_decap_unwrapped);
	return GRE_DECAP_OUT;
}
