/* ecmp: spread flows over several ways
 *
 * Chooses one of its vifs by a hash of the packet's addresses, protocol and ports, so that a flow keeps its way and
 * its packets their order (RFC 2992). A vif that is named twice gets two shares. What is not IP goes by the first.
 * Fragmented datagrams may be split between ways: only their first fragment has ports.
 *
 * outputs: out
 *   none  that vif is gone
 * parameters: ways: vif...  up to 16 of them
 * counters: sent  packets
 * example: input -> spread :: ecmp(to-b, to-b, to-c) -> out
 *   spread[none] -> kernel
 */
ELEMENT int ecmp(struct packet *p, const struct ecmp_parameters *c, __u32 counters)
{
	/* the hash's share of the number of ways: a multiplication, where a remainder would divide */
	__u32 chosen = (__u32)((__u64)packet_hash(p) * c->ways_count >> 32);
	__u32 way = c->ways[0];
#pragma unroll
	for (__u32 i = 1; i < 16; i++)
		if (i == chosen)
			way = c->ways[i];
	if (!packet_towards(p, way))
		return ECMP_NONE;
	packet_count(p, counters + ecmp_sent);
	return ECMP_OUT;
}
