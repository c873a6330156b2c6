/* What runs at a vif before the user's program: it charges the packet to two budgets, then hands it over.
 *
 * Compiled with -DVINI_XDP for the XDP hook, without it for tc.  The sliver has a budget, and the slice has one;
 * a packet beyond either is dropped and counted.  Where no program has this slot, packets pass.
 *
 * A budget is a token bucket kept as one number, the time until which all that was taken is paid for (the virtual
 * scheduling algorithm of ITU-T I.371): it fills by itself, and two processors that take at once need no lock.  They
 * take packets by the batch into a share of their own, so that most packets cost no clock and no shared cache line.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>

#define SLOTS 128

#ifdef VINI_XDP
typedef struct xdp_md context;
#define HOOK "xdp"
#define PASS XDP_PASS
#define DROP XDP_DROP
#else
typedef struct __sk_buff context;
#define HOOK "tc"
#define PASS TC_ACT_UNSPEC /* on to the next filter: shaping */
#define DROP TC_ACT_SHOT
#endif

struct budget {
	__u64 paid_until_ns;
	__u64 ns_per_1024;       /* what 1024 packets cost */
	__u64 burst_ns;          /* how long nothing taken is saved up */
	__u64 batch;             /* packets taken at once; costs far less than burst_ns */
};

struct share {
	__u64 left, passed, dropped;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct budget);
} sliver_budget SEC(".maps"), slice_budget SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct share);
} shares SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, __u32);
} calls SEC(".maps");

const volatile __u32 slot; /* set for each vif and direction; the kernel makes a direct jump of a call by constant */

static __always_inline __u64 start(const struct budget *b, __u64 paid_until, __u64 now)
{
	__u64 earliest = now > b->burst_ns ? now - b->burst_ns : 0;
	return paid_until > earliest ? paid_until : earliest;
}

static __always_inline __u64 cost(const struct budget *b, __u64 packets)
{
	return packets * b->ns_per_1024 >> 10;
}

static __always_inline bool can_take(const struct budget *b, __u64 packets, __u64 now)
{
	return start(b, b->paid_until_ns, now) + cost(b, packets) <= now;
}

static __always_inline bool take(struct budget *b, __u64 packets, __u64 now)
{
#pragma unroll
	for (int tries = 0; tries < 4; tries++) {
		__u64 seen = *(volatile __u64 *)&b->paid_until_ns, paid = start(b, seen, now) + cost(b, packets);
		if (paid > now)
			return false;
		if (__sync_val_compare_and_swap(&b->paid_until_ns, seen, paid) == seen)
			return true;
	}
	return false;
}

/* A new share for this processor; 0 where a budget is used up. */
static __noinline __u64 fetch(void)
{
	__u32 zero = 0;
	struct budget *own = bpf_map_lookup_elem(&sliver_budget, &zero);
	struct budget *all = bpf_map_lookup_elem(&slice_budget, &zero);
	if (!own || !all)
		return 0;
	__u64 now = bpf_ktime_get_ns(), batch = own->batch < all->batch ? own->batch : all->batch;
	if (!can_take(all, batch, now)) /* first, so that a sliver isn't charged for what its slice can't pay */
		return 0;
	return take(own, batch, now) && take(all, batch, now) ? batch : 0;
}

SEC(HOOK) int dispatch(context *ctx)
{
	__u32 zero = 0;
	struct share *mine = bpf_map_lookup_elem(&shares, &zero);
	if (!mine)
		return DROP;
	if (!mine->left)
		mine->left = fetch();
	if (!mine->left) {
		mine->dropped++;
		return DROP;
	}
	mine->left--;
	mine->passed++;
	bpf_tail_call(ctx, &calls, slot);
	return PASS;
}

char _license[] SEC("license") = "GPL";
