/* ring-forwarder: an IP router in user space that forwards by the kernel's forwarding table.
 *
 * Build and run in a sliver whose kernel doesn't forward:  gcc -O2 -o ring-forwarder ring-forwarder.c && ./ring-forwarder
 * It takes every veth of its network namespace.  Packets come by a ring that the kernel fills (packet(7), PACKET_RX_RING)
 * and leave in batches by sendmmsg(2), so they pass the link's queue and its shaping.  PACKET_QDISC_BYPASS would be
 * faster and go round both.  The ring is TPACKET_V2's: version 3 holds a lone packet back for at least a millisecond.
 * Every packet has a virtio_net_hdr before it: large segments stay whole, and unfinished checksums are finished by the
 * kernel.  The kernel's tables are in routes.h.  When a link comes or goes this program ends; the agent starts it again. */
#define _GNU_SOURCE
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "routes.h"

enum { FRAME = 2048, FRAMES = 2048, BATCH = 256, LARGE = 1 << 17 };

struct vif {
	int fd, waiting; /* `waiting` packets are in `messages` */
	uint8_t *ring;
	unsigned next;
	struct mmsghdr messages[BATCH];
	struct iovec parts[BATCH];
};

static struct vif vifs[VIFS]; /* each beside the one of `outs` */
static uint8_t (*large)[LARGE]; /* one for each packet of a batch */

static void option(int fd, int level, int name, int value)
{
	must(!setsockopt(fd, level, name, &value, sizeof value), "setting a socket's option");
}

static void open_vif(struct vif *v, int index, const char *name)
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
	here.sll_ifindex = index;
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
		memcpy(outs[count].mac, r.ifr_hwaddr.sa_data, 6);
		outs[count].index = i->if_index;
		open_vif(&vifs[count++], i->if_index, i->if_name);
	}
	if_freenameindex(all);
	close(fd);
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
	struct hop *h = route_packet(&outs[in - vifs], p, size);
	struct vif *out;

	if (!h)
		return;
	out = &vifs[h->out];
	if (out->waiting == BATCH)
		send_all(out);
	out->parts[out->waiting++] = (struct iovec){p - offload, size + offload};
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

int main(void)
{
	int ready = epoll_create1(0);
	struct epoll_event event = {.events = EPOLLIN}, events[VIFS + 1];

	open_tables();
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
				take_changes();
				continue;
			}
			if (events[i].events & EPOLLERR) /* the link went down; once asked for, that is forgotten */
				getsockopt(v->fd, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof error});
			serve(v);
		}
	}
}
