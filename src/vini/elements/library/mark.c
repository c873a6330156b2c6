/* mark: set the packet's mark, which the sliver's rules and filters can see
 *
 * Sets what Linux calls fwmark (`ip rule add fwmark 7 table 100`). It stays on this machine. XDP runs before there is a
 * mark: a program with `mark` runs at tc.
 *
 * outputs: out
 * parameters: value: u32  the mark
 * hooks: tc
 * example: input -> mark(7) -> kernel
 */
ELEMENT int mark(struct packet *p, const struct mark_parameters *c, __u32 counters)
{
	p->ctx->mark = c->value;
	return MARK_OUT;
}
