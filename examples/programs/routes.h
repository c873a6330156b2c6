/* routes.h: by the kernel's tables, for forwarders in user space.
 *
 * Fill `outs` with the vifs, call open_tables(), and then for each packet route_packet().  Routes and MAC addresses of
 * neighbours are asked of the kernel once (rtnetlink(7)) and kept until it tells of a change: read `changes` when it is
 * readable, by take_changes().  When a link comes or goes that ends the program; the agent starts it again.
 * A process without CAP_NET_ADMIN can't ask the kernel to look for a neighbour, and so sends only to those it knows. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { VIFS = 64, KEPT = 1 << 16 };

struct out { /* a vif, as the kernel's tables know it */
	int index;
	uint8_t mac[6];
};

struct hop {
	uint8_t to[16], size; /* destination, and its length: 4 or 16; 0: nothing kept here */
	uint8_t macs[12];
	int out; /* by which of `outs`; -1: not to be sent on */
};

static struct out outs[VIFS];
static int count, kernel, changes;
static struct hop kept[KEPT];

static void must(int good, const char *doing)
{
	if (!good) {
		fprintf(stderr, "%s: %s: %s.\n", program_invocation_short_name, doing, strerror(errno));
		exit(1);
	}
}

static void open_tables(void)
{
	struct sockaddr_nl here = {.nl_family = AF_NETLINK,
				   .nl_groups = RTMGRP_LINK | RTMGRP_NEIGH | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE |
						RTMGRP_IPV4_RULE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE};

	changes = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	kernel = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	must(!bind(changes, (struct sockaddr *)&here, sizeof here), "listening for changes");
}

/* Ask with one attribute; the answer is in `room`.  0 where the kernel has none. */
static int ask(int type, int flags, const void *body, int size, int kind, const void *value, int length, void *room)
{
	struct { struct nlmsghdr head; char rest[64]; } q = {.head = {.nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags}};
	struct rtattr *a = (void *)(q.rest + size);
	struct nlmsghdr *answer = room;

	memcpy(q.rest, body, size);
	*a = (struct rtattr){RTA_LENGTH(length), kind};
	memcpy(RTA_DATA(a), value, length);
	q.head.nlmsg_len = NLMSG_LENGTH(size) + RTA_SPACE(length);
	must(send(kernel, &q, q.head.nlmsg_len, 0) >= 0 && recv(kernel, room, 4096, 0) >= 0, "asking the kernel");
	return answer->nlmsg_type != NLMSG_ERROR;
}

static void *attribute(struct nlmsghdr *m, int size, int kind)
{
	struct rtattr *a = (void *)((char *)NLMSG_DATA(m) + NLMSG_ALIGN(size));
	int left = NLMSG_PAYLOAD(m, size);

	for (; RTA_OK(a, left); a = RTA_NEXT(a, left))
		if (a->rta_type == kind)
			return RTA_DATA(a);
	return NULL;
}

/* A neighbour's MAC address; where it isn't known the kernel is told to ask for it, and may know it at once. */
static int neighbour(int index, const uint8_t *address, int size, uint8_t *mac)
{
	static const int good = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT;
	struct ndmsg n = {.ndm_family = size == 4 ? AF_INET : AF_INET6, .ndm_ifindex = index};
	_Alignas(8) char room[4096];

	for (int tries = 0; tries < 2; tries++) {
		n.ndm_flags = 0;
		if (ask(RTM_GETNEIGH, 0, &n, sizeof n, NDA_DST, address, size, room) &&
		    ((struct ndmsg *)NLMSG_DATA((struct nlmsghdr *)room))->ndm_state & good) {
			memcpy(mac, attribute((void *)room, sizeof n, NDA_LLADDR), 6);
			return 1;
		}
		n.ndm_flags = NTF_USE;
		ask(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_ACK, &n, sizeof n, NDA_DST, address, size, room);
	}
	return 0;
}

static void look(struct hop *h)
{
	struct rtmsg r = {.rtm_family = h->size == 4 ? AF_INET : AF_INET6, .rtm_dst_len = 8 * h->size};
	_Alignas(8) char room[4096];
	struct nlmsghdr *m = (void *)room;
	int *index, out = 0;
	uint8_t *via;

	h->out = -1;
	if (h->size == 16 && (h->to[0] == 0xff || (h->to[0] == 0xfe && (h->to[1] & 0xc0) == 0x80)))
		return; /* a group's, or a link-local address */
	if (!ask(RTM_GETROUTE, 0, &r, sizeof r, RTA_DST, h->to, h->size, room) ||
	    ((struct rtmsg *)NLMSG_DATA(m))->rtm_type != RTN_UNICAST || !(index = attribute(m, sizeof r, RTA_OIF)))
		return;
	via = attribute(m, sizeof r, RTA_GATEWAY);
	while (out < count && outs[out].index != *index)
		out++;
	if (out == count || !neighbour(*index, via ? via : h->to, h->size, h->macs))
		return;
	memcpy(h->macs + 6, outs[out].mac, 6);
	h->out = out;
}

static struct hop *lookup(const uint8_t *to, int size)
{
	uint32_t sum = 2166136261; /* FNV-1a */
	struct hop *h;

	for (int i = 0; i < size; i++)
		sum = (sum ^ to[i]) * 16777619;
	h = &kept[(sum ^ sum >> 16) % KEPT];
	if (h->size != size || memcmp(h->to, to, size)) {
		h->size = size;
		memcpy(h->to, to, size);
		look(h);
	}
	return h;
}

/* Make a packet that came in by `in` ready to be sent on; `p` is its Ethernet header.  NULL: it isn't to be. */
static struct hop *route_packet(const struct out *in, uint8_t *p, int size)
{
	int type = size >= 34 ? p[12] << 8 | p[13] : 0, sum;
	struct hop *h;

	if (memcmp(p, in->mac, 6))
		return NULL;
	if (type == ETHERTYPE_IP && p[22] > 1) {
		h = lookup(p + 30, 4);
		if (h->out < 0)
			return NULL;
		p[22]--;
		sum = (p[24] << 8 | p[25]) + 0x100; /* RFC 1624 */
		sum += sum >= 0xffff;
		p[24] = sum >> 8, p[25] = sum;
	} else if (type == ETHERTYPE_IPV6 && size >= 54 && p[21] > 1) {
		h = lookup(p + 38, 16);
		if (h->out < 0)
			return NULL;
		p[21]--;
	} else {
		return NULL;
	}
	memcpy(p, h->macs, 12);
	return h;
}

/* What is kept may be wrong from now on. */
static void take_changes(void)
{
	_Alignas(8) char room[1 << 15];
	int size;

	while ((size = recv(changes, room, sizeof room, MSG_DONTWAIT)) > 0 || (size < 0 && errno == ENOBUFS))
		for (struct nlmsghdr *m = (void *)room; size > 0 && NLMSG_OK(m, (unsigned)size); m = NLMSG_NEXT(m, size)) {
			struct ifinfomsg *link = NLMSG_DATA(m);
			int known = 0;

			for (struct out *o = outs; o < outs + count; o++)
				known |= o->index == link->ifi_index;
			if ((m->nlmsg_type == RTM_NEWLINK && !known) || (m->nlmsg_type == RTM_DELLINK && known)) {
				printf("%s: the links are others now.\n", program_invocation_short_name);
				exit(0);
			}
		}
	memset(kept, 0, sizeof kept);
}
