/* limit: let through what keeps to a rate
 *
 * A token bucket, as the virtual scheduling algorithm (ITU-T I.371): a packet conforms unless it comes earlier than
 * `burst` milliseconds before its turn. The rate is of packets, or of bits of Ethernet frame; a large segment counts
 * as the packets that it will be. All processors share one bucket.
 *
 * outputs: out
 *   exceed  packets beyond the rate
 * parameters: rate: rate  such as 1000pps, 64kbit, 10mbit or 1gbit
 *   burst: u32 = 10  ms that a packet may come too early
 * counters: conform  within the rate
 *   exceed  beyond it
 * tables: bucket: array[1] u32 -> turn:u64  the next packet's turn, in ns since the machine's start
 * writes: bucket
 * example: input -> l :: limit(10mbit, burst=20) -> kernel
 *   l[exceed] -> drop
 */
ELEMENT bool limit_take(struct limit_bucket *b, __u64 cost, __u64 burst)
{
	__u64 now = bpf_ktime_get_ns();
#pragma unroll
	for (int i = 0; i < 4; i++) { /* another processor may be faster: then again */
		__u64 turn = b->turn, from = turn > now ? turn : now;
		if (turn > now + burst)
			return false;
		if (__sync_val_compare_and_swap(&b->turn, turn, from + cost) == turn)
			return true;
	}
	return false;
}

ELEMENT int limit(struct packet *p, const struct limit_parameters *c, __u32 counters, void *bucket)
{
	__u32 zero = 0;
	struct limit_bucket *b = bpf_map_lookup_elem(bucket, &zero);
	__u64 units = c->rate & 1 ? packet_segments(p) : packet_length(p);
	if (b && limit_take(b, units * (c->rate >> 1) / 1000, c->burst * 1000000ULL)) {
		packet_count(p, counters + limit_conform);
		return LIMIT_OUT;
	}
	packet_count(p, counters + limit_exceed);
	return LIMIT_EXCEED;
}
