/* sample: take a random share of the packets another way
 *
 * Each packet leaves by `sampled` with the probability `share`, independently of the others, else by `out`. It is the
 * packet itself that goes there: `sampled -> mirror(VIF) -> ...` makes a copy of it.
 *
 * outputs: out
 *   sampled  the share
 * parameters: share: share  such as 1% or 0.01
 * counters: sampled  packets that left by `sampled`
 * example: input -> s :: sample(1%) -> kernel
 *   s[sampled] -> drop
 */
ELEMENT int sample(struct packet *p, const struct sample_parameters *c, __u32 counters)
{
	if (c->share != 0xffffffff && bpf_get_prandom_u32() >= c->share)
		return SAMPLE_OUT;
	packet_count(p, counters + sample_sampled);
	return SAMPLE_SAMPLED;
}
