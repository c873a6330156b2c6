/* vxlan-decap: take whole Ethernet frames out of VXLAN
 *
 * The other end of `vxlan-encap`: takes the headers off packets to `local` with this network's number. UDP checksums
 * are not looked at; fragments are not put together.
 *
 * outputs: out
 *   other  no such packet, or a fragment of one
 * parameters: local: ip4  this end of the tunnel
 *   vni: vni  the network's number, the same at both ends
 *   port: port = 4789  the receiver's UDP port
 * counters: unwrapped  packets
 * example: input -> t :: vxlan-decap(local=192.0.2.2, vni=100) -> out(to-c)
 *   t[other] -> kernel
 */
ELEMENT int vxlan_decap(struct packet *p, const struct vxlan_decap_parameters *c, __u32 counters)
{
	const struct iphdr *ip = packet_ip(p);
	const struct vxlan_headers *v = packet_at(p, ETH_HLEN, sizeof *v);
	if (!ip || !v || ip->ihl != 5 || ip->protocol != IPPROTO_UDP || ip_is_fragment(ip) || ip->daddr != c->local ||
	    v->udp.dest != c->port || v->flags != bpf_htonl(VXLAN_VNI) || v->vni != bpf_htonl(c->vni << 8))
		return VXLAN_DECAP_OTHER;
	struct ethhdr inner = v->inner, *e;
	if (!packet_unwrap(p, sizeof *v, bpf_ntohs(inner.h_proto), TUNNEL_VXLAN))
		return -1;
	e = packet_at(p, 0, sizeof *e);
	if (!e)
		return -1;
	*e = inner;
	packet_count(p, counters + vxlan_decap_unwrapped);
	return VXLAN_DECAP_OUT;
}
