/* The two ends of a measurement of packet rates: frames of one flow out of nowhere, and a place where they end.
 *
 * `generate` runs on frames that the kernel makes for BPF_PROG_TEST_RUN; they are recycled as the last receiver
 * left them, so every header is written anew.  `count_and_drop` counts what arrives at the other end.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

volatile const __u32 out = 0;              /* interface index */
volatile const __u64 header[7] = {};       /* the frame's first 56 bytes */

SEC("xdp") int generate(struct xdp_md *ctx)
{
	__u64 *at = (void *)(long)ctx->data;
	if ((void *)(at + 7) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	for (int i = 0; i < 7; i++)
		at[i] = header[i];
	return bpf_redirect(out, 0);
}

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} arrived SEC(".maps");

/* Lets a vif take frames that were redirected to its other end (NAPI), and leaves them to the kernel. */
SEC("xdp") int take_in(struct xdp_md *ctx)
{
	return XDP_PASS;
}

SEC("xdp") int count_and_drop(struct xdp_md *ctx)
{
	__u32 first = 0;
	__u64 *count = bpf_map_lookup_elem(&arrived, &first);
	if (count)
		++*count;
	return XDP_DROP;
}

char _license[] SEC("license") = "GPL";
