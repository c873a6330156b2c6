/* vxlan-encap: wrap whole Ethernet frames in VXLAN
 *
 * Puts IPv4, UDP and VXLAN headers (RFC 7348) in front of the frame, whose own Ethernet header goes along; the sender's
 * port comes from the inner flow's hash, the UDP checksum is 0. Where a way has been chosen before, the inner
 * frame gets that way's Ethernet addresses; `lookup` or `out(VIF)` behind it sends the outer packet. Large segments are
 * kept at tc. The link's MTU must have room for 50 bytes more.
 *
 * outputs: out
 * parameters: local: ip4  this end of the tunnel
 *   remote: ip4  the other end
 *   vni: vni  the network's number, the same at both ends
 *   port: port = 4789  the receiver's UDP port
 * counters: wrapped  packets
 *   lost  no room, or a large segment that was in another kind of tunnel before
 * example: input -> vxlan-encap(local=192.0.2.1, remote=192.0.2.2, vni=100) -> out(to-b)
 */
ELEMENT int vxlan_encap(struct packet *p, const struct vxlan_encap_parameters *c, __u32 counters)
{
	__u16 port = (__u16)(0xc000 | packet_hash(p) >> 18), length;
	const struct ethhdr *e = packet_at(p, 0, sizeof *e);
	struct vxlan_headers *v = NULL;
	struct ethhdr inner;
	if (!e)
		return -1;
	inner = *e;
	if (p->way) {
		__builtin_memcpy(inner.h_dest, p->way->peer, ETH_ALEN);
		__builtin_memcpy(inner.h_source, p->way->mac, ETH_ALEN);
	}
	if (packet_wrap(p, sizeof *v, TUNNEL_VXLAN) && packet_outer(p, c->local, c->remote, IPPROTO_UDP))
		v = packet_at(p, ETH_HLEN, sizeof *v);
	if (!v) {
		packet_count(p, counters + vxlan_encap_lost);
		return -1;
	}
	length = (__u16)(packet_length(p) - ETH_HLEN - sizeof v->ip);
	v->udp = (struct udphdr){.source = bpf_htons(port), .dest = c->port, .len = bpf_htons(length)};
	v->flags = bpf_htonl(VXLAN_VNI);
	v->vni = bpf_htonl(c->vni << 8);
	v->inner = inner;
	p->way = NULL;
	packet_count(p, counters + vxlan_encap_wrapped);
	return VXLAN_ENCAP_OUT;
}
