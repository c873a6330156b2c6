/* The link element: holds packets of shaped vifs in user space and sends them on when their time has come.
 *
 * Use on kernels without netem.  One process serves all links of a machine.  For each shaped vif it is
 * handed two descriptors: a TAP, into which a cls_bpf program diverts what leaves by the vif, and a packet
 * socket, by which it goes out after all (packet(7)).  It never looks into a packet, never sleeps while one
 * is due, and never does more work for a packet because there are more links.
 *
 *   packet -> loss -> queue, drop-tail, at most queue_packets waiting -> rate -> delay and jitter -> out
 *
 * Order is kept.  A packet's departure is computed once, when it arrives (a virtual clock), so a late wake-up
 * delays packets but never changes the rate.  Control: docs/explanation/links.md, "Talking to the element".
 *
 * Usage: element SOCKET NETNS_DIRECTORY MEMORY_MB      becomes a daemon; exit status 0: it listens.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <math.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define NONE UINT32_MAX
#define NEVER UINT64_MAX

enum {
	CELL = 2048,             /* bytes; one holds a 1500-byte frame */
	SPAN = 33,               /* cells of the largest packet: 64 KiB, Ethernet and vnet header */
	READS = 32,              /* packets taken from one TAP before looking at the clock's demands again */
	SENDS = 32,              /* packets given to the kernel in one call */
	EVENTS = 64,
	PAGE = 64,               /* ports in one answer: a longer one would hold up packets */
	MESSAGE = 32768,         /* bytes of an answer */
	REALTIME_PRIORITY = 10,
	SPIN_NS = 20000,         /* a departure that is nearer is waited for awake: sleeping takes about as long */
	LATE_NS = 1000000,       /* counted as late */
	MILLION = 1000000,
};

static uint64_t clock_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- memory: one pool of cells; a packet is a chain of them --------------------------------------------- */

struct packet {                  /* of the packet that starts in the cell of the same number */
	uint64_t start;          /* its turn at the rate, ns */
	uint64_t departure;      /* ns */
	uint32_t next;           /* packet of the same port */
	uint32_t length;         /* bytes, vnet header included */
};

static struct {
	uint8_t *bytes;
	uint32_t *link;          /* next cell of the same packet, or of the free list */
	struct packet *packets;
	uint32_t free, free_count, size, touched; /* cells from `touched` on were never used */
} pool;

static void *map(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) {
		perror("element: mapping memory for packets");
		exit(1);
	}
	return p;
}

static void pool_open(size_t megabytes)
{
	pool.size = (uint32_t)(megabytes * 1024 * 1024 / CELL);
	pool.bytes = map((size_t)pool.size * CELL);
	pool.link = map((size_t)pool.size * sizeof *pool.link);
	pool.packets = map((size_t)pool.size * sizeof *pool.packets);
	pool.free = NONE;
	pool.free_count = pool.size;
}

static uint32_t cell_take(void)  /* the caller has looked at free_count */
{
	uint32_t c = pool.free;
	pool.free_count--;
	if (c == NONE)
		return pool.touched++;
	pool.free = pool.link[c];
	return c;
}

static void cell_give(uint32_t c)
{
	pool.link[c] = pool.free;
	pool.free = c;
	pool.free_count++;
}

static uint32_t cells_of(uint32_t length)
{
	return (length + CELL - 1) / CELL;
}

static void packet_free(uint32_t p)
{
	uint32_t n = cells_of(pool.packets[p].length);
	while (n--) {
		uint32_t next = pool.link[p];
		cell_give(p);
		p = next;
	}
}

/* The cells that the next packet is read into, whatever its size. */
static struct {
	uint32_t cell[SPAN];
	struct iovec parts[SPAN];
} window;

static void window_fill(uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		window.cell[i] = cell_take();
		window.parts[i] = (struct iovec){pool.bytes + (size_t)window.cell[i] * CELL, CELL};
	}
}

static uint32_t window_claim(uint32_t length) /* what was read becomes a packet */
{
	uint32_t n = cells_of(length), first = window.cell[0];
	for (uint32_t i = 0; i + 1 < n; i++)
		pool.link[window.cell[i]] = window.cell[i + 1];
	pool.packets[first].length = length;
	pool.packets[first].next = NONE;
	window_fill(n);
	return first;
}

/* ---- ports: one direction of one link ------------------------------------------------------------------ */

struct watch {                   /* what an epoll event points at */
	void (*ready)(struct watch *, uint32_t events);
	int fd;
};

struct shape {                   /* as the fields of the object kind Shape */
	uint64_t delay_us, jitter_us, loss_ppm, rate_kbit, queue_packets;
};

struct counters {                /* packets; a large segment is one */
	uint64_t received, sent;
	uint64_t lost;           /* by intent */
	uint64_t dropped;        /* queue or memory full */
	uint64_t refused;        /* by the kernel: vif down, or a silent fault */
	uint64_t late;           /* sent more than LATE_NS after their time */
};

struct port {
	struct watch tap, out;
	char netns[256], dev[16];
	uint64_t inode, ifindex; /* of the namespace, of the vif: tell a new one of the same name */
	struct shape shape;
	struct counters count;
	uint32_t head, tail;     /* packets in order of departure */
	uint32_t turn, waiting;  /* first packet whose turn has not come, and how many such */
	uint32_t cells;
	uint64_t busy_until, last_departure;
	uint64_t random[2];
	size_t slot, heap_at;    /* heap_at is 1-based; 0: not in the heap */
	struct port *buried;
};

static struct {
	struct port **of;
	size_t count, room;
} ports;

static struct port *graveyard;   /* freed once no event of the present batch can name them */

/* Ports that hold packets, the one with the earliest departure first: a binary heap. */
static struct {
	struct port **of;        /* 1-based */
	size_t count, room;
} heap;

static uint64_t first_departure(const struct port *p)
{
	return pool.packets[p->head].departure;
}

static void heap_put(size_t at, struct port *p)
{
	heap.of[at] = p;
	p->heap_at = at;
}

static void heap_up(struct port *p)
{
	size_t at = p->heap_at;
	for (; at > 1 && first_departure(heap.of[at / 2]) > first_departure(p); at /= 2)
		heap_put(at, heap.of[at / 2]);
	heap_put(at, p);
}

static void heap_down(struct port *p)
{
	size_t at = p->heap_at;
	for (size_t child; (child = 2 * at) <= heap.count; at = child) {
		if (child < heap.count && first_departure(heap.of[child + 1]) < first_departure(heap.of[child]))
			child++;
		if (first_departure(heap.of[child]) >= first_departure(p))
			break;
		heap_put(at, heap.of[child]);
	}
	heap_put(at, p);
}

static void heap_add(struct port *p)
{
	p->heap_at = ++heap.count;
	heap_up(p);
}

static void heap_remove(struct port *p)
{
	struct port *last = heap.of[heap.count--];
	size_t at = p->heap_at;
	p->heap_at = 0;
	if (last == p)
		return;
	last->heap_at = at;
	heap_up(last);
	heap_down(last);
}

/* ---- scheduling: when a packet departs ----------------------------------------------------------------- */

static uint64_t random64(struct port *p) /* xorshift128+ */
{
	uint64_t a = p->random[0], b = p->random[1];
	p->random[0] = b;
	a ^= a << 23;
	p->random[1] = a ^ b ^ (a >> 17) ^ (b >> 26);
	return p->random[1] + b;
}

static double uniform(struct port *p) /* (0, 1] */
{
	return ((double)(random64(p) >> 11) + 1) / 9007199254740992.0;
}

static bool loses(struct port *p)
{
	return p->shape.loss_ppm && uniform(p) * MILLION <= (double)p->shape.loss_ppm;
}

static uint64_t wire_ns(struct port *p) /* one way; normal, cut at 0 (Box and Muller) */
{
	double ns = (double)p->shape.delay_us * 1000;
	if (p->shape.jitter_us)
		ns += (double)p->shape.jitter_us * 1000 * sqrt(-2 * log(uniform(p))) * cos(2 * M_PI * uniform(p));
	return ns > 0 ? (uint64_t)ns : 0;
}

static uint64_t serialisation_ns(const struct port *p, uint32_t length)
{
	uint64_t frame = length - sizeof(struct virtio_net_hdr);
	return p->shape.rate_kbit ? frame * 8 * MILLION / p->shape.rate_kbit : 0;
}

static void turns_pass(struct port *p, uint64_t now)
{
	while (p->turn != NONE && pool.packets[p->turn].start <= now) {
		p->turn = pool.packets[p->turn].next;
		p->waiting--;
	}
}

static void schedule(struct port *p, uint32_t packet, uint64_t now)
{
	struct packet *k = &pool.packets[packet];
	k->start = p->busy_until > now ? p->busy_until : now;
	p->busy_until = k->start + serialisation_ns(p, k->length);
	k->departure = p->busy_until + wire_ns(p);
	if (k->departure < p->last_departure)
		k->departure = p->last_departure; /* order is kept */
	p->last_departure = k->departure;
}

static void append(struct port *p, uint32_t packet, uint64_t now)
{
	schedule(p, packet, now);
	if (p->tail != NONE)
		pool.packets[p->tail].next = packet;
	p->tail = packet;
	if (pool.packets[packet].start > now) {
		if (p->turn == NONE)
			p->turn = packet;
		p->waiting++;
	}
	if (p->head == NONE) {
		p->head = packet;
		heap_add(p);
	}
}

/* After a change of rate: what still waits for its turn gets a new one; what is on the wire stays. */
static void reschedule(struct port *p, uint64_t now)
{
	uint32_t packet = p->head, before = NONE;
	turns_pass(p, now);
	for (; packet != p->turn; packet = pool.packets[packet].next)
		before = packet;
	p->busy_until = before == NONE ? now : pool.packets[before].start + serialisation_ns(p, pool.packets[before].length);
	p->last_departure = before == NONE ? 0 : pool.packets[before].departure;
	for (; packet != NONE; packet = pool.packets[packet].next)
		schedule(p, packet, now);
	turns_pass(p, now);
	if (p->heap_at) {
		heap_up(p);
		heap_down(p);
	}
}

/* ---- in: from the TAP ---------------------------------------------------------------------------------- */

/* A port may hold as much as is left for all others (dynamic threshold, Choudhury and Hahne 1998):
 * one flooded link can't take the others' memory. */
static bool has_room(const struct port *p, uint32_t cells)
{
	return (uint64_t)p->cells + cells <= pool.free_count;
}

static void arrive(struct port *p, uint32_t length, uint64_t now)
{
	uint32_t cells = cells_of(length);
	p->count.received++;
	if (loses(p)) {
		p->count.lost++;
		return;
	}
	turns_pass(p, now);
	bool queues = p->shape.rate_kbit && p->busy_until > now;
	if ((queues && p->waiting >= p->shape.queue_packets) || !has_room(p, cells)) {
		p->count.dropped++;
		return;
	}
	p->cells += cells;
	append(p, window_claim(length), now);
}

static void port_close(struct port *p);
static void depart_due(void);

static void tap_ready(struct watch *w, uint32_t events)
{
	struct port *p = (struct port *)((char *)w - offsetof(struct port, tap));
	(void)events;
	for (int i = 0; i < READS && w->fd >= 0; i++) {
		ssize_t n = readv(w->fd, window.parts, SPAN);
		if (n > (ssize_t)sizeof(struct virtio_net_hdr))
			arrive(p, (uint32_t)n, clock_ns());
		else if (n < 0 && errno == EAGAIN)
			break;
		else if (n < 0 && errno != EINTR)
			port_close(p); /* EBADFD: somebody deleted the TAP */
	}
	depart_due();
}

/* ---- out: by the packet socket ------------------------------------------------------------------------- */

static struct {
	struct mmsghdr message[SENDS];
	struct iovec part[SENDS * SPAN];
} outgoing;

static unsigned gather(struct port *p, uint64_t now, struct sockaddr_ll *to)
{
	unsigned n = 0;
	struct iovec *part = outgoing.part;
	for (uint32_t k = p->head; k != NONE && n < SENDS; k = pool.packets[k].next) {
		const struct packet *packet = &pool.packets[k];
		if (packet->departure > now)
			break;
		struct msghdr *m = &outgoing.message[n++].msg_hdr;
		*m = (struct msghdr){.msg_name = to, .msg_namelen = sizeof *to, .msg_iov = part};
		p->count.late += now - packet->departure > LATE_NS;
		uint32_t left = packet->length;
		for (uint32_t c = k; left; c = pool.link[c]) {
			size_t size = left < CELL ? left : CELL;
			*part++ = (struct iovec){pool.bytes + (size_t)c * CELL, size};
			left -= (uint32_t)size;
		}
		m->msg_iovlen = (size_t)(part - m->msg_iov);
	}
	return n;
}

static void pop(struct port *p, unsigned n)
{
	while (n--) {
		uint32_t k = p->head;
		if (p->turn == k) {
			p->turn = pool.packets[k].next;
			p->waiting--;
		}
		p->head = pool.packets[k].next;
		p->cells -= cells_of(pool.packets[k].length);
		packet_free(k);
	}
	if (p->head != NONE) {
		heap_down(p);
		return;
	}
	p->tail = NONE;
	heap.of[p->heap_at] = p;
}

static unsigned depart(struct port *p, uint64_t now)
{
	/* The address names the vif, and no protocol: the kernel then reads it from the frame. */
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)p->ifindex};
	unsigned due = gather(p, now, &to);
	int sent = sendmmsg(p->out.fd, outgoing.message, due, MSG_DONTWAIT);
	if (sent < 0 && errno == ENXIO) {
		port_close(p); /* the vif is gone */
		return due;
	}
	p->count.sent += sent > 0 ? (unsigned)sent : 0;
	p->count.refused += sent <= 0;
	pop(p, sent > 0 ? (unsigned)sent : 1);
	return due;
}

static void depart_due(void)
{
	uint64_t now = clock_ns();
	for (unsigned done = 0; heap.count && done < 4 * SENDS; ) {
		struct port *p = heap.of[1];
		if (first_departure(p) > now)
			return;
		done += depart(p, now);
	}
}
