/* gre-encap: wrap IP packets in GRE with a key
 *
 * Puts an IPv4 header and a GRE header with a key (RFC 2784, RFC 2890) in front of an IPv4 or IPv6 packet, as an
 * `ip link add ... type gre key KEY` at the other end takes it. Large segments are kept. The link's MTU must have
 * room for 28 bytes more.
 *
 * outputs: out
 *   other  it is not IP
 * parameters: local: ip4  this end of the tunnel
 *   remote: ip4  the other end
 *   key: u32  the same at both ends
 * counters: wrapped  packets
 *   lost  no room, or a large segment that was in another kind of tunnel before
 * example: input -> t :: gre-encap(local=192.0.2.1, remote=192.0.2.2, key=7) -> out(to-b)
 *   t[other] -> drop
 */
ELEMENT int gre_encap(struct packet *p, const struct gre_encap_parameters *c, __u32 counters)
{
	__u16 protocol = packet_version(p, ETH_HLEN);
	struct gre_header *g = NULL;
	if (!protocol || protocol != packet_protocol(p))
		return GRE_ENCAP_OTHER;
	if (packet_wrap(p, sizeof(struct iphdr) + sizeof *g, TUNNEL_GRE) &&
	    packet_outer(p, c->local, c->remote, IPPROTO_GRE))
		g = packet_at(p, ETH_HLEN + sizeof(struct iphdr), sizeof *g);
	if (!g) {
		packet_count(p, counters + gre_encap_lost);
		return -1;
	}
	*g = (struct gre_header){bpf_htons(GRE_KEY), bpf_htons(protocol), bpf_htonl(c->key)};
	packet_count(p, counters + gre_encap_wrapped);
	return GRE_ENCAP_OUT;
}
