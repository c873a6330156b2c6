#include "stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fail.h"

enum { ALL_FRAMES = 3 /* ETH_P_ALL */, OUT_ROOM = 1 << 28, IN_ROOM = 1 << 26 };
static const int ONE = 1;

struct stream *streams;
uint32_t stream_count;
struct port *ports;
int port_count;

static void enter(const char *netns)
{
	static int own = -1;
	if (strcmp(netns, "-")) {
		int fd = open(netns, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || setns(fd, CLONE_NEWNET))
			fail(errno, "There is no network namespace %s", netns);
		close(fd);
		return;
	}
	if (own >= 0) {
		if (setns(own, CLONE_NEWNET))
			fail(errno, "Our own namespace can't be entered");
		return;
	}
	if (unshare(CLONE_NEWNET) || (own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) < 0)
		fail(errno, "A network namespace for the control can't be made");
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING | IFF_LOOPBACK};
	if (s < 0 || ioctl(s, SIOCSIFFLAGS, &up))
		fail(errno, "The control's loopback can't be switched on");
	close(s);
}

/* A packet socket at a vif of the present namespace; tells the vif's address. */
static int packet_socket(const char *dev, int protocol, uint8_t mac[6])
{
	int s = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	struct ifreq asked = {0};
	snprintf(asked.ifr_name, sizeof asked.ifr_name, "%s", dev);
	if (s < 0 || ioctl(s, SIOCGIFHWADDR, &asked))
		fail(errno, "There is no vif %s", dev);
	memcpy(mac, asked.ifr_hwaddr.sa_data, 6);
	struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(protocol),
							 .sll_ifindex = (int)if_nametoindex(dev)};
	if (bind(s, (void *)&at, sizeof at))
		fail(errno, "A packet socket can't be bound to %s", dev);
	return s;
}

/* Only our frames, before bridges and filters at ingress take them: all protocols, and a filter of our type. */
static int open_port(const char *dev, uint8_t mac[6])
{
	struct sock_filter ours[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETHERTYPE, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0xffff),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog program = {.len = sizeof ours / sizeof *ours, .filter = ours};
	int s = packet_socket(dev, 0, mac), room = IN_ROOM;
	if (setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) ||
		setsockopt(s, SOL_SOCKET, SO_TIMESTAMPNS, &ONE, sizeof ONE) ||
		setsockopt(s, SOL_PACKET, PACKET_IGNORE_OUTGOING, &ONE, sizeof ONE))
		fail(errno, "The receiving socket at %s can't be set up", dev);
	setsockopt(s, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
	struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ALL_FRAMES),
							 .sll_ifindex = (int)if_nametoindex(dev)};
	if (bind(s, (void *)&at, sizeof at))
		fail(errno, "A packet socket can't be bound to %s", dev);
	return s;
}

static int port_of(const char *netns, const char *dev)
{
	for (int i = 0; i < port_count; i++)
		if (!strcmp(ports[i].netns, netns) && !strcmp(ports[i].dev, dev))
			return i;
	struct port *p = &ports[port_count];
	snprintf(p->netns, sizeof p->netns, "%s", netns);
	snprintf(p->dev, sizeof p->dev, "%s", dev);
	enter(netns);
	p->in = open_port(dev, p->mac);
	return port_count++;
}

static bool is_elsewhere(const char *netns)
{
	return !strcmp(netns, "@");
}

static void read_mac(const char *text, uint8_t mac[6])
{
	if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) != 6)
		fail(EINVAL, "%s is not the address of a vif", text);
}

static void *room_for(const struct stream *s, size_t count, size_t size)
{
	void *room = calloc(count, size);
	if (!room)
		fail(ENOMEM, "There is no memory for %u frames", s->count);
	return room;
}

void stream_open(struct stream *s, uint32_t number, const char *netns, const char *dev, const char *peer_netns,
				 const char *peer)
{
	uint8_t mac[6], peer_mac[6];
	int room = OUT_ROOM;
	s->control = !strcmp(netns, "-");
	s->out = s->port = -1;
	if (is_elsewhere(peer_netns)) {
		read_mac(peer, peer_mac);
	} else {
		s->port = port_of(peer_netns, peer);
		memcpy(peer_mac, ports[s->port].mac, sizeof peer_mac);
		s->room = s->count + 64;
		s->arrivals = room_for(s, s->room, sizeof *s->arrivals);
	}
	if (is_elsewhere(netns)) {
		read_mac(dev, mac);
	} else {
		enter(netns);
		s->out = packet_socket(dev, 0, mac);
		setsockopt(s->out, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
		s->sent_at_ns = room_for(s, s->count, sizeof *s->sent_at_ns);
	}
	frame_write(s->frame, peer_mac, mac, s->bytes);
	frame_label(s->frame, (struct label){number, 0});
}
