/* xsk.h: a sliver's vifs as AF_XDP sockets, for a program that VINI starts with them (`af_xdp: true`).
 *
 * xsk_open() takes up the sockets that are there already, so it needs no rights.  Then, for each vif:
 *
 *     n = xsk_receive(v, got, most);      packets that came in; each is now yours
 *     xsk_send(out, packet);              yours no more: by any vif, without a copy
 *     xsk_free(packet);                   the same, to nowhere
 *     xsk_push(out);                      after a batch: the kernel sends what waits
 *     xsk_wait(vifs, count, also, ms);    until there is something to do
 *
 * A packet is bytes xsk_at(packet)[0 .. packet.len - 1], an Ethernet frame with finished checksums, which has to leave so.
 * 256 bytes before it are free for headers: lower packet.addr and raise packet.len.  What is for the sliver itself does
 * not come here, but to its kernel.  All memory is shared by all vifs: keep no packet for long. */
#include <errno.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SOL_XDP
#define SOL_XDP 283
#endif

enum { XSK_VIFS = 64 };

struct xsk_ring { /* `at` is how far we are; the kernel sees it when we say so */
	uint32_t *producer, *consumer, at;
	void *entries;
};

struct xsk {
	char name[IFNAMSIZ];
	int fd, index;
	uint8_t mac[6];
	struct xsk_ring received, sent, empty, done;
};

static struct {
	uint8_t *memory;
	uint64_t *frames; /* those that are nobody's */
	uint32_t left, frame, ring;
} xsk;

static void xsk_must(int good, const char *doing)
{
	if (!good) {
		fprintf(stderr, "AF_XDP: %s: %s.\n", doing, strerror(errno));
		exit(1);
	}
}

static inline uint8_t *xsk_at(struct xdp_desc packet)
{
	return xsk.memory + packet.addr;
}

static inline void xsk_free(struct xdp_desc packet)
{
	xsk.frames[xsk.left++] = packet.addr & ~(uint64_t)(xsk.frame - 1);
}

static inline uint32_t xsk_seen(const uint32_t *of)
{
	return __atomic_load_n(of, __ATOMIC_ACQUIRE);
}

static inline void xsk_tell(uint32_t *of, uint32_t value)
{
	__atomic_store_n(of, value, __ATOMIC_RELEASE);
}

/* The kernel gets empty frames to fill. */
static void xsk_refill(struct xsk *v)
{
	struct xsk_ring *r = &v->empty;
	uint32_t room = xsk.ring - (r->at - xsk_seen(r->consumer));

	while (room-- && xsk.left)
		((uint64_t *)r->entries)[r->at++ & (xsk.ring - 1)] = xsk.frames[--xsk.left];
	xsk_tell(r->producer, r->at);
}

/* What has been sent is free again. */
static void xsk_collect(struct xsk *v)
{
	struct xsk_ring *r = &v->done;

	for (uint32_t end = xsk_seen(r->producer); r->at != end; r->at++)
		xsk_free((struct xdp_desc){.addr = ((uint64_t *)r->entries)[r->at & (xsk.ring - 1)]});
	xsk_tell(r->consumer, r->at);
}

static inline unsigned xsk_receive(struct xsk *v, struct xdp_desc *got, unsigned most)
{
	struct xsk_ring *r = &v->received;
	unsigned n = xsk_seen(r->producer) - r->at;

	if (n > most)
		n = most;
	for (unsigned i = 0; i < n; i++)
		got[i] = ((struct xdp_desc *)r->entries)[r->at++ & (xsk.ring - 1)];
	xsk_tell(r->consumer, r->at);
	xsk_collect(v);
	xsk_refill(v);
	return n;
}

static inline int xsk_waits(const struct xsk *v)
{
	return v->sent.at != xsk_seen(v->sent.consumer);
}

/* The link's queue is the socket's buffer: when that is full, what waits is sent by a later call. */
static void xsk_push(struct xsk *v)
{
	xsk_tell(v->sent.producer, v->sent.at);
	for (int tries = 0; xsk_waits(v) && tries < 64; tries++) {
		if (sendto(v->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 && errno != EAGAIN && errno != EBUSY)
			break; /* the link is down: what waits goes when it is up */
		xsk_collect(v);
	}
}

static inline void xsk_send(struct xsk *v, struct xdp_desc packet)
{
	struct xsk_ring *r = &v->sent;

	if (r->at - xsk_seen(r->consumer) == xsk.ring) {
		xsk_push(v);
		if (r->at - xsk_seen(r->consumer) == xsk.ring) {
			xsk_free(packet);
			return;
		}
	}
	packet.options = 0;
	((struct xdp_desc *)r->entries)[r->at++ & (xsk.ring - 1)] = packet;
}

/* Until a packet comes, `also` (a descriptor, or -1) can be read, or so many ms have passed (-1: for ever).  Whether
 * `also` can be read.  A vif that went away ends the program: it is started again with those that there are. */
static int xsk_wait(struct xsk *vifs, int count, int also, int ms)
{
	struct pollfd p[XSK_VIFS + 1] = {{.fd = also, .events = POLLIN}};

	for (int i = 0; i < count; i++) {
		p[i + 1] = (struct pollfd){.fd = vifs[i].fd, .events = POLLIN};
		if (xsk_waits(&vifs[i])) {
			xsk_push(&vifs[i]);
			ms = 1;
		}
	}
	poll(p, count + 1, ms);
	for (int i = 0; i < count; i++)
		if (p[i + 1].revents & (POLLERR | POLLNVAL)) {
			int error = 0;

			getsockopt(p[i + 1].fd, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof error});
			errno = error;
			xsk_must(!error, vifs[i].name);
		}
	return p[0].revents & POLLIN;
}

static void xsk_map(struct xsk_ring *r, int fd, const struct xdp_ring_offset *o, size_t entry, uint64_t page)
{
	uint8_t *at = mmap(NULL, o->desc + xsk.ring * entry, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, page);

	xsk_must(at != MAP_FAILED, "mapping a ring");
	*r = (struct xsk_ring){(void *)(at + o->producer), (void *)(at + o->consumer), 0, at + o->desc};
}

static void xsk_open_one(struct xsk *v)
{
	struct xdp_mmap_offsets o;
	struct ifreq r = {0};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	xsk_must(!getsockopt(v->fd, SOL_XDP, XDP_MMAP_OFFSETS, &o, &(socklen_t){sizeof o}), v->name);
	xsk_map(&v->received, v->fd, &o.rx, sizeof(struct xdp_desc), XDP_PGOFF_RX_RING);
	xsk_map(&v->sent, v->fd, &o.tx, sizeof(struct xdp_desc), XDP_PGOFF_TX_RING);
	xsk_map(&v->empty, v->fd, &o.fr, sizeof(uint64_t), XDP_UMEM_PGOFF_FILL_RING);
	xsk_map(&v->done, v->fd, &o.cr, sizeof(uint64_t), XDP_UMEM_PGOFF_COMPLETION_RING);
	memcpy(r.ifr_name, v->name, sizeof r.ifr_name);
	xsk_must((v->index = if_nametoindex(v->name)) && !ioctl(fd, SIOCGIFHWADDR, &r), v->name);
	memcpy(v->mac, r.ifr_hwaddr.sa_data, 6);
	close(fd);
	xsk_refill(v);
}

/* Take up the sockets that VINI_XSK tells of: "MEMORY FRAME RING VIF=SOCKET...".  How many there are. */
static int xsk_open(struct xsk *vifs, int most)
{
	char *told = getenv("VINI_XSK"), *word;
	uint32_t frames;
	off_t size;
	int memory, used, count = 0;

	if (!told || sscanf(told, "%d %u %u%n", &memory, &xsk.frame, &xsk.ring, &used) != 3) {
		fprintf(stderr, "AF_XDP: there are no sockets; write `program: {process: ..., af_xdp: true}`.\n");
		exit(1);
	}
	size = lseek(memory, 0, SEEK_END);
	xsk.memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, memory, 0);
	xsk_must(size > 0 && xsk.memory != MAP_FAILED, "mapping the memory of packets");
	frames = size / xsk.frame;
	xsk_must((xsk.frames = malloc(frames * sizeof *xsk.frames)) != NULL, "taking memory");
	while (xsk.left < frames) {
		xsk.frames[xsk.left] = (uint64_t)xsk.left * xsk.frame;
		xsk.left++;
	}
	for (word = strtok(strdup(told + used), " "); word && count < most; word = strtok(NULL, " "), count++) {
		struct xsk *v = &vifs[count];

		xsk_must(sscanf(word, "%15[^=]=%d", v->name, &v->fd) == 2, "reading VINI_XSK");
		xsk_open_one(v);
	}
	return count;
}
