/* What runs at the vifs of a sliver whose process has AF_XDP sockets: it parts what the kernel must see from what the
 * process forwards.
 *
 * The kernel gets what is for the sliver itself, its routing daemons too: ARP, frames to groups, link-local addresses,
 * and packets to the sliver's own addresses, which the node writes into `own`.  All else goes to the vif's socket; where
 * there is none it is lost, as the kernel of such a sliver forwards nothing.  Sockets have the number of their vif.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct address {
	__u32 word[4]; /* of IPv4 the first, the others 0 */
};

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 512);
	__type(key, struct address);
	__type(value, __u8);
} own SEC(".maps");

static __always_inline int is_own(struct xdp_md *c)
{
	void *data = (void *)(long)c->data, *end = (void *)(long)c->data_end;
	struct address to = {};
	struct ethhdr *e = data;

	if ((void *)(e + 1) > end || e->h_dest[0] & 1 || e->h_proto == bpf_htons(ETH_P_ARP))
		return 1;
	if (e->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (void *)(e + 1);

		if ((void *)(ip + 1) > end)
			return 1;
		to.word[0] = ip->daddr;
	} else if (e->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = (void *)(e + 1);

		if ((void *)(ip + 1) > end || (ip->daddr.s6_addr32[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000))
			return 1;
		__builtin_memcpy(&to, &ip->daddr, sizeof to);
	} else {
		return 0;
	}
	return bpf_map_lookup_elem(&own, &to) != 0;
}

#define AT(number, vif)                                                                                  \
	SEC("xdp/" vif) int at_##number(struct xdp_md *c)                                                \
	{                                                                                                \
		return is_own(c) ? XDP_PASS : bpf_redirect_map(&sockets, number, XDP_DROP);              \
	}

char _license[] SEC("license") = "GPL";
