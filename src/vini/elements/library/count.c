/* count: count packets
 *
 * Counts what passes; a large segment counts as the packets that it will be.
 *
 * counters: passed  packets and bytes
 * outputs: out
 * example: input -> seen :: count -> kernel
 */
ELEMENT int count(struct packet *p, const struct count_parameters *c, __u32 counters)
{
	packet_count(p, counters + count_passed);
	return COUNT_OUT;
}
