/* ring-forwarder: an IP router in user space that forwards by the kernel's forwarding table.
 *
 * Build and run in a sliver whose kernel doesn't forward:  gcc -O2 -o ring-forwarder ring-forwarder.c && ./ring-forwarder
 * It takes every veth of its network namespace.  Packets come by a ring that the kernel fills (packet(7), PACKET_RX_RING)
 * and leave in batches by sendmmsg(2), so they pass the link's queue and its shaping.  PACKET_QDISC_BYPASS would be
 * faster and go round both.  The ring is TPACKET_V2's: version 3 holds a lone packet back for at least a millisecond.
 * Every packet has a virtio_net_hdr before it: large segments stay whole, and unfinished checksums are finished by the
 * kernel.  Routes and MAC addresses of neighbours are asked of the kernel once and kept until it tells of a change.
 * When a link comes or goes this program ends; the agent starts it again. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FRAME = 2048, FRAMES = 2048, BATCH = 256, VIFS = 64, LARGE = 1 << 17, KEPT = 1 << 16 };

struct vif {
	int fd, index, waiting; /* `waiting` packets are in `messages` */
	uint8_t mac[6];
	uint8_t *ring;
	unsigned next;
	struct mmsghdr messages[BATCH];
	struct iovec parts[BATCH];
};

struct hop {
	uint8_t to[16], size; /* destination, and its length: 4 or 16; 0: nothing kept here */
	uint8_t macs[12];
	struct vif *vif; /* NULL: not to be sent on */
};

static struct vif vifs[VIFS];
static int count, kernel;
static struct hop kept[KEPT];
static uint8_t (*large)[LARGE]; /* one for each packet of a batch */

static void must(int good, const char *doing)
{
	if (!good) {
		fprintf(stderr, "ring-forwarder: %s: %s.\n", doing, strerror(errno));
		exit(1);
	}
}

static void option(int fd, int level, int name, int value)
{
	must(!setsockopt(fd, level, name, &value, sizeof value), "setting a socket's option");
}

static void open_vif(struct vif *v, const char *name)
{
	struct tpacket_req ring = {FRAME * 32, FRAMES / 32, FRAME, FRAMES};
	struct sockaddr_ll here = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};

	v->fd = socket(AF_PACKET, SOCK_RAW, 0);
	must(v->fd >= 0, "opening a packet socket");
	option(v->fd, SOL_PACKET, PACKET_VERSION, TPACKET_V2);
	option(v->fd, SOL_PACKET, PACKET_VNET_HDR, 1);
	option(v->fd, SOL_PACKET, PACKET_COPY_THRESH, 1); /* larger ones than a frame: read them from the socket */
	option(v->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
	option(v->fd, SOL_SOCKET, SO_SNDBUFFORCE, 64 << 20); /* the link's queue decides what is dropped */
	option(v->fd, SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20);
	must(!setsockopt(v->fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring), "making a ring");
	v->ring = mmap(NULL, (size_t)FRAME * FRAMES, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	must(v->ring != MAP_FAILED, "mapping a ring");
	here.sll_ifindex = v->index = if_nametoindex(name);
	must(!bind(v->fd, (struct sockaddr *)&here, sizeof here), name);
	for (int i = 0; i < BATCH; i++) {
		v->messages[i].msg_hdr.msg_iov = &v->parts[i];
		v->messages[i].msg_hdr.msg_iovlen = 1;
	}
}

/* Every interface whose driver is veth. */
static void open_vifs(void)
{
	struct if_nameindex *all = if_nameindex();
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	for (struct if_nameindex *i = all; i->if_index && count < VIFS; i++) {
		struct ethtool_drvinfo driver = {.cmd = ETHTOOL_GDRVINFO};
		struct ifreq r = {.ifr_data = (void *)&driver};

		snprintf(r.ifr_name, sizeof r.ifr_name, "%s", i->if_name);
		if (ioctl(fd, SIOCETHTOOL, &r) || strcmp(driver.driver, "veth"))
			continue;
		must(!ioctl(fd, SIOCGIFHWADDR, &r), i->if_name);
		memcpy(vifs[count].mac, r.ifr_hwaddr.sa_data, 6);
		open_vif(&vifs[count++], i->if_name);
	}
	if_freenameindex(all);
	close(fd);
}

/* --- the kernel's tables (rtnetlink(7)) ------------------------------------------------------------- */

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
	struct vif *v = vifs;
	int *index;
	uint8_t *via;

	h->vif = NULL;
	if (h->size == 16 && (h->to[0] == 0xff || (h->to[0] == 0xfe && (h->to[1] & 0xc0) == 0x80)))
		return; /* a group's, or a link-local address */
	if (!ask(RTM_GETROUTE, 0, &r, sizeof r, RTA_DST, h->to, h->size, room) ||
	    ((struct rtmsg *)NLMSG_DATA(m))->rtm_type != RTN_UNICAST || !(index = attribute(m, sizeof r, RTA_OIF)))
		return;
	via = attribute(m, sizeof r, RTA_GATEWAY);
	while (v < vifs + count && v->index != *index)
		v++;
	if (v == vifs + count || !neighbour(v->index, via ? via : h->to, h->size, h->macs))
		return;
	memcpy(h->macs + 6, v->mac, 6);
	h->vif = v;
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

/* --- packets ---------------------------------------------------------------------------------------- */

static void send_all(struct vif *v)
{
	for (int done = 0; done < v->waiting;) {
		int sent = sendmmsg(v->fd, v->messages + done, v->waiting - done, MSG_DONTWAIT);

		done += sent > 0 ? sent : 1; /* the kernel refused one: its queue is full, or the link is down */
	}
	v->waiting = 0;
}

/* `p` is the Ethernet header; `offload` bytes before it go along. */
static void forward(struct vif *in, uint8_t *p, int size)
{
	enum { offload = sizeof(struct virtio_net_hdr) };
	int type = size >= 34 ? p[12] << 8 | p[13] : 0, sum;
	struct hop *h;

	if (memcmp(p, in->mac, 6))
		return;
	if (type == ETHERTYPE_IP && p[22] > 1) {
		h = lookup(p + 30, 4);
		if (!h->vif)
			return;
		p[22]--;
		sum = (p[24] << 8 | p[25]) + 0x100; /* RFC 1624 */
		sum += sum >= 0xffff;
		p[24] = sum >> 8, p[25] = sum;
	} else if (type == ETHERTYPE_IPV6 && size >= 54 && p[21] > 1) {
		h = lookup(p + 38, 16);
		if (!h->vif)
			return;
		p[21]--;
	} else {
		return;
	}
	memcpy(p, h->macs, 12);
	if (h->vif->waiting == BATCH)
		send_all(h->vif);
	h->vif->parts[h->vif->waiting++] = (struct iovec){p - offload, size + offload};
}

static void serve(struct vif *v)
{
	unsigned first = v->next, i;
	int many = 0;

	for (i = 0; i < BATCH; i++) {
		struct tpacket2_hdr *h = (void *)(v->ring + (size_t)FRAME * ((first + i) % FRAMES));
		unsigned status = __atomic_load_n(&h->tp_status, __ATOMIC_ACQUIRE);

		if (!(status & TP_STATUS_USER))
			break;
		if (status & TP_STATUS_COPY) {
			int size = recv(v->fd, large[many], LARGE, MSG_DONTWAIT);
			int offload = sizeof(struct virtio_net_hdr);

			if (size > offload)
				forward(v, large[many++] + offload, size - offload);
		} else if (h->tp_len == h->tp_snaplen) {
			forward(v, (uint8_t *)h + h->tp_mac, h->tp_len);
		}
	}
	for (struct vif *out = vifs; out < vifs + count; out++)
		send_all(out);
	for (v->next = (first + i) % FRAMES; i--; first++) {
		struct tpacket2_hdr *h = (void *)(v->ring + (size_t)FRAME * (first % FRAMES));
		__atomic_store_n(&h->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
	}
}

/* What is kept may be wrong from now on. */
static void take_changes(int changes)
{
	_Alignas(8) char room[1 << 15];
	int size;

	while ((size = recv(changes, room, sizeof room, MSG_DONTWAIT)) > 0 || (size < 0 && errno == ENOBUFS))
		for (struct nlmsghdr *m = (void *)room; size > 0 && NLMSG_OK(m, (unsigned)size); m = NLMSG_NEXT(m, size)) {
			struct ifinfomsg *link = NLMSG_DATA(m);
			int known = 0;

			for (struct vif *v = vifs; v < vifs + count; v++)
				known |= v->index == link->ifi_index;
			if ((m->nlmsg_type == RTM_NEWLINK && !known) || (m->nlmsg_type == RTM_DELLINK && known)) {
				printf("ring-forwarder: the links are others now.\n");
				exit(0);
			}
		}
	memset(kept, 0, sizeof kept);
}

int main(void)
{
	struct sockaddr_nl here = {.nl_family = AF_NETLINK,
				   .nl_groups = RTMGRP_LINK | RTMGRP_NEIGH | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE |
						RTMGRP_IPV4_RULE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE};
	int changes = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), ready = epoll_create1(0);
	struct epoll_event event = {.events = EPOLLIN}, events[VIFS + 1];

	kernel = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	must(!bind(changes, (struct sockaddr *)&here, sizeof here), "listening for changes");
	must((large = malloc((size_t)BATCH * LARGE)) != NULL, "taking memory");
	epoll_ctl(ready, EPOLL_CTL_ADD, changes, &event);
	open_vifs();
	for (struct vif *v = vifs; v < vifs + count; v++) {
		event.data.ptr = v;
		epoll_ctl(ready, EPOLL_CTL_ADD, v->fd, &event);
	}
	for (;;) {
		int n = epoll_wait(ready, events, VIFS + 1, -1);

		for (int i = 0; i < n; i++) {
			struct vif *v = events[i].data.ptr;
			int error;

			if (!v) {
				take_changes(changes);
				continue;
			}
			if (events[i].events & EPOLLERR) /* the link went down; once asked for, that is forgotten */
				getsockopt(v->fd, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof error});
			serve(v);
		}
	}
}
