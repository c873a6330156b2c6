/* classify: sort packets by their Ethernet protocol
 *
 * Each argument is an output: packets of that protocol leave by it, all others by `other`.
 *
 * outputs: each of protocols
 *   other  every other protocol
 * parameters: protocols: protocol...  ip, ip6, arp, mpls, vlan, route, id, or a number such as 0x88b5
 * example: input -> sort :: classify(ip, arp)
 *   sort[ip] -> drop
 *   sort[arp] -> kernel
 *   sort[other] -> kernel
 */
ELEMENT int classify(struct packet *p, const struct classify_parameters *c, __u32 counters)
{
	__u16 protocol = packet_protocol(p);
#pragma unroll
	for (__u32 i = 0; i < 16; i++)
		if (i < c->protocols_count && c->protocols[i] == protocol)
			return (int)i;
	return (int)c->protocols_count;
}
