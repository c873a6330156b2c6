/* mirror: send a copy of each packet out of a vif
 *
 * The copy goes to the other end of that vif's link just as it is, Ethernet addresses too; the packet goes on by
 * `out`. XDP can't copy packets: a program with `mirror` runs at tc.
 *
 * outputs: out
 * parameters: to: vif  where the copies go
 * counters: copies  packets that were copied
 *   failures  the kernel had no memory, or the vif is gone
 * hooks: tc
 * example: input -> mirror(to-c) -> kernel
 */
ELEMENT int mirror(struct packet *p, const struct mirror_parameters *c, __u32 counters)
{
	__u32 slot = c->to - 1;
	const struct vif *v = bpf_map_lookup_elem(&vifs, &slot);
	bool sent = v && v->ifindex && !bpf_clone_redirect(p->ctx, v->ifindex, 0);
	packet_gather(p);
	packet_count(p, counters + (sent ? mirror_copies : mirror_failures));
	return MIRROR_OUT;
}
