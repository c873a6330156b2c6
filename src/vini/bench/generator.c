/* The two ends of a measurement of packet rates: frames of one flow out of nowhere, and a place where they end.
 *
 * `generate` runs on frames that the kernel makes for BPF_PROG_TEST_RUN; they are recycled as the last receiver
 * left them, so every header is written anew.  `count_and_drop` counts what arrives at the other end.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

volatile const __u32 out = 0;              /* interface index */
enum { MOST = 13 };
volatile const __u32 words = 0;            /* of the header */
volatile const __u64 header[MOST] = {};    /* the frame's first bytes, as many as anybody on the way changes */

SEC("xdp") int generate(struct xdp_md *ctx)
{
	__u64 *at = (void *)(long)ctx->data;
	for (__u32 i = 0; i < MOST && i < words; i++) {
		if ((void *)(at + i + 1) > (void *)(long)ctx->data_end)
			return XDP_ABORTED;
		at[i] = header[i];
	}
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
