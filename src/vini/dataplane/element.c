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
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
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
	RECHECK_NS = 50000000,   /* of vifs that are down */
	IDLE_S = 5,              /* without a port and a client: it ends */
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
	uint32_t free, free_count, size;
	uint32_t touched;        /* cells from this one on were never used */
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
	bool is_down;            /* its vif was, and nothing was sent since */
	struct port *buried;
	int tap_fd, out_fd;      /* once buried */
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
	p->busy_until = now;
	p->last_departure = 0;
	if (before != NONE) {
		const struct packet *k = &pool.packets[before];
		p->busy_until = k->start + serialisation_ns(p, k->length);
		p->last_departure = k->departure;
	}
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
		else if (n <= 0 && errno != EINTR)
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
	} else {
		p->tail = NONE;
		heap_remove(p);
	}
}

static unsigned late_of(const struct port *p, uint64_t now, unsigned n)
{
	unsigned late = 0;
	for (uint32_t k = p->head; n--; k = pool.packets[k].next)
		late += now - pool.packets[k].departure > LATE_NS;
	return late;
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
	if (sent > 0) {
		p->count.sent += (unsigned)sent;
		p->count.late += late_of(p, now, (unsigned)sent);
		p->is_down = false;
	} else {
		p->count.refused++;
	}
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

/* ---- ports come and go --------------------------------------------------------------------------------- */

static int events_fd = -1;

static void watch_add(struct watch *w, int fd, uint32_t events, void (*ready)(struct watch *, uint32_t))
{
	struct epoll_event e = {.events = events, .data.ptr = w};
	w->fd = fd;
	w->ready = ready;
	if (epoll_ctl(events_fd, EPOLL_CTL_ADD, fd, &e))
		perror("element: epoll_ctl");
}

/* A packet socket says once that its vif went down, and not that the vif was deleted after that.  So ports
 * whose vif is down are looked at now and then, until they send again or their socket has lost its vif. */
static int recheck_fd = -1;

static void recheck_in_a_while(void)
{
	struct itimerspec t = {.it_value = {.tv_nsec = RECHECK_NS}};
	timerfd_settime(recheck_fd, 0, &t, NULL);
}

static void close_if_vif_is_gone(struct port *p)
{
	struct sockaddr_ll at = {0};
	socklen_t size = sizeof at;
	if (getsockname(p->out.fd, (struct sockaddr *)&at, &size) || at.sll_ifindex <= 0)
		port_close(p);
}

static void recheck_ready(struct watch *w, uint32_t events)
{
	uint64_t expirations;
	bool again = false;
	(void)events;
	if (read(w->fd, &expirations, sizeof expirations) < 0)
		return;
	for (size_t i = ports.count; i-- > 0; ) {
		struct port *p = ports.of[i];
		if (!p->is_down)
			continue;
		again = true;
		close_if_vif_is_gone(p);
	}
	if (again)
		recheck_in_a_while();
}

static void out_ready(struct watch *w, uint32_t events)
{
	struct port *p = (struct port *)((char *)w - offsetof(struct port, out));
	int error;
	(void)events;
	getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof error}); /* and forget it */
	p->is_down = true;
	recheck_in_a_while();
	close_if_vif_is_gone(p);
}

static struct port *port_find(const char *netns, const char *dev)
{
	for (size_t i = 0; i < ports.count; i++)
		if (!strcmp(ports.of[i]->dev, dev) && !strcmp(ports.of[i]->netns, netns))
			return ports.of[i];
	return NULL;
}

static bool make_room(void)
{
	if (ports.count < ports.room)
		return true;
	size_t room = ports.room ? 2 * ports.room : 64;
	struct port **a = realloc(ports.of, room * sizeof *a);
	ports.of = a ? a : ports.of;
	struct port **b = realloc(heap.of, (room + 1) * sizeof *b);
	heap.of = b ? b : heap.of;
	if (!a || !b)
		return false;
	ports.room = heap.room = room;
	return true;
}

static struct port *port_open(const char *netns, const char *dev, int tap, int out)
{
	struct port *p = make_room() ? calloc(1, sizeof *p) : NULL;
	if (!p)
		return NULL;
	snprintf(p->netns, sizeof p->netns, "%s", netns);
	snprintf(p->dev, sizeof p->dev, "%s", dev);
	p->head = p->tail = p->turn = NONE;
	if (getrandom(p->random, sizeof p->random, 0) != sizeof p->random || !p->random[0])
		p->random[0] = clock_ns();
	p->slot = ports.count;
	ports.of[ports.count++] = p;
	watch_add(&p->tap, tap, EPOLLIN, tap_ready);
	watch_add(&p->out, out, 0, out_ready); /* errors only */
	return p;
}

static const char *netns_directory;

static bool is_gone(const struct port *p) /* the namespace, or its name belongs to a new one */
{
	char path[4096];
	struct stat s;
	snprintf(path, sizeof path, "%s/%s", netns_directory, p->netns);
	return stat(path, &s) || s.st_ino != p->inode;
}

/* Closing a packet socket or deleting a TAP makes the kernel wait for tens of milliseconds, so a thread of its
 * own does it.  TAPs are persistent: a killed element's need not be made anew.  Those of a deleted namespace
 * go with it, all at once. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t filled;
	struct port *first;
} closing = {.lock = PTHREAD_MUTEX_INITIALIZER, .filled = PTHREAD_COND_INITIALIZER};

static _Atomic unsigned closing_count;

static void close_later(struct port *p)
{
	closing_count++;
	pthread_mutex_lock(&closing.lock);
	p->buried = closing.first;
	closing.first = p;
	pthread_cond_signal(&closing.filled);
	pthread_mutex_unlock(&closing.lock);
}

static struct port *next_to_close(void)
{
	pthread_mutex_lock(&closing.lock);
	while (!closing.first)
		pthread_cond_wait(&closing.filled, &closing.lock);
	struct port *p = closing.first;
	closing.first = p->buried;
	pthread_mutex_unlock(&closing.lock);
	return p;
}

static void *close_forever(void *nothing)
{
	for (;;) {
		struct port *p = next_to_close();
		if (!is_gone(p))
			ioctl(p->tap_fd, TUNSETPERSIST, 0);
		close(p->tap_fd);
		close(p->out_fd);
		free(p);
		closing_count--;
	}
	return nothing;
}

/* Its packets are lost, its TAP vanishes, and nothing of ours holds the namespace any more. */
static void port_close(struct port *p)
{
	if (p->tap.fd < 0)
		return;
	p->tap_fd = p->tap.fd;
	p->out_fd = p->out.fd;
	epoll_ctl(events_fd, EPOLL_CTL_DEL, p->tap_fd, NULL);
	epoll_ctl(events_fd, EPOLL_CTL_DEL, p->out_fd, NULL);
	p->tap.fd = p->out.fd = -1; /* events of the present batch are not for it any more */
	if (p->heap_at)
		heap_remove(p);
	while (p->head != NONE) {
		uint32_t next = pool.packets[p->head].next;
		packet_free(p->head);
		p->head = next;
	}
	ports.of[p->slot] = ports.of[--ports.count];
	ports.of[p->slot]->slot = p->slot;
	p->buried = graveyard;
	graveyard = p;
}

static void bury(void)
{
	while (graveyard) {
		struct port *p = graveyard;
		graveyard = p->buried;
		close_later(p);
	}
}

/* ---- namespaces that are deleted by hand --------------------------------------------------------------- */

static void netns_deleted(const char *name)
{
	for (size_t i = ports.count; i-- > 0; )
		if (!strcmp(ports.of[i]->netns, name) && is_gone(ports.of[i]))
			port_close(ports.of[i]);
}

static void directory_ready(struct watch *w, uint32_t events)
{
	_Alignas(struct inotify_event) char buffer[16384];
	ssize_t n = read(w->fd, buffer, sizeof buffer);
	(void)events;
	for (ssize_t at = 0; at < n; ) {
		const struct inotify_event *e = (const struct inotify_event *)(buffer + at);
		if (e->len)
			netns_deleted(e->name);
		at += (ssize_t)(sizeof *e + e->len);
	}
}

/* ---- control: one line of text per message, answered by one message ------------------------------------ */

struct answer {
	char text[MESSAGE];
	size_t length;
};

__attribute__((format(printf, 2, 3))) static void say(struct answer *a, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	int n = vsnprintf(a->text + a->length, sizeof a->text - a->length, format, arguments);
	va_end(arguments);
	if (n > 0)
		a->length += (size_t)n < sizeof a->text - a->length ? (size_t)n : sizeof a->text - a->length - 1;
}

struct field {
	const char *name;
	size_t at;
};
static const struct field settings[] = {
	{"netns", offsetof(struct port, inode)},
	{"ifindex", offsetof(struct port, ifindex)},
	{"delay_us", offsetof(struct port, shape.delay_us)},
	{"jitter_us", offsetof(struct port, shape.jitter_us)},
	{"loss_ppm", offsetof(struct port, shape.loss_ppm)},
	{"rate_kbit", offsetof(struct port, shape.rate_kbit)},
	{"queue_packets", offsetof(struct port, shape.queue_packets)},
	{NULL, 0},
};
static const struct field counts[] = {
	{"received", offsetof(struct port, count.received)},
	{"sent", offsetof(struct port, count.sent)},
	{"lost", offsetof(struct port, count.lost)},
	{"dropped", offsetof(struct port, count.dropped)},
	{"refused", offsetof(struct port, count.refused)},
	{"late", offsetof(struct port, count.late)},
	{"waiting", offsetof(struct port, waiting)},
	{NULL, 0},
};

static uint64_t field_get(const struct port *p, const struct field *f)
{
	const void *at = (const char *)p + f->at;
	return f->at == offsetof(struct port, waiting) ? *(const uint32_t *)at : *(const uint64_t *)at;
}

static bool field_set(struct port *p, const char *word)
{
	const char *equals = strchr(word, '=');
	for (const struct field *f = settings; equals && f->name; f++) {
		if (strncmp(word, f->name, (size_t)(equals - word)) || f->name[equals - word])
			continue;
		char *end;
		errno = 0;
		uint64_t value = strtoull(equals + 1, &end, 10);
		if (errno || *end || end == equals + 1 || value > INT64_MAX / MILLION)
			return false;
		*(uint64_t *)((char *)p + f->at) = value;
		return true;
	}
	return false;
}

/* set NETNS DEV name=value ...   with two descriptors, TAP and packet socket: a new port. */
static void do_set(char *netns, char *dev, char **rest, int fd[2], struct answer *a)
{
	struct port *p = port_find(netns, dev), wish = {0};
	if (!p && fd[0] < 0) {
		say(a, "error no such port; a new one needs its two descriptors\n");
		return;
	}
	if (p)
		wish = *p;
	for (char *word; (word = strtok_r(NULL, " \n", rest)); )
		if (!field_set(&wish, word)) {
			say(a, "error don't understand '%s'\n", word);
			return;
		}
	if (fd[0] >= 0) {
		if (p)
			port_close(p);
		p = port_open(netns, dev, fd[0], fd[1]);
		if (!p) {
			say(a, "error out of memory\n");
			return;
		}
		fd[0] = fd[1] = -1;
	}
	bool turns_change = p->shape.rate_kbit != wish.shape.rate_kbit;
	p->shape = wish.shape;
	p->inode = wish.inode;
	p->ifindex = wish.ifindex;
	if (turns_change)
		reschedule(p, clock_ns());
	say(a, "ok\n");
}

static void do_remove(const char *netns, const char *dev, struct answer *a)
{
	struct port *p = port_find(netns, dev);
	if (p)
		port_close(p);
	say(a, p ? "ok removed\n" : "ok absent\n");
}

static bool realtime;

/* list FROM, stats FROM: PAGE ports from that place on; `next=0` says that these were the last. */
static void do_show(const char *from, const struct field *fields, struct answer *a)
{
	size_t first = from ? strtoul(from, NULL, 10) : 0, end = first + PAGE < ports.count ? first + PAGE : ports.count;
	say(a, "ok next=%zu pid=%d realtime=%d free_cells=%" PRIu32 " cells=%" PRIu32 "\n", end < ports.count ? end : 0,
	    getpid(), realtime, pool.free_count, pool.size);
	for (size_t i = first; i < end; i++) {
		const struct port *p = ports.of[i];
		say(a, "%s %s", p->netns, p->dev);
		for (const struct field *f = fields; f->name; f++)
			say(a, " %s=%" PRIu64, f->name, field_get(p, f));
		say(a, "\n");
	}
}

static void obey(char *line, int fd[2], struct answer *a)
{
	char *rest, *verb = strtok_r(line, " \n", &rest);
	char *first = strtok_r(NULL, " \n", &rest);
	if (verb && !strcmp(verb, "list"))
		do_show(first, settings, a);
	else if (verb && !strcmp(verb, "stats"))
		do_show(first, counts, a);
	else {
		char *dev = first ? strtok_r(NULL, " \n", &rest) : NULL;
		if (dev && strlen(first) < sizeof(((struct port *)0)->netns) && strlen(dev) < sizeof(((struct port *)0)->dev)) {
			if (!strcmp(verb, "set")) {
				do_set(first, dev, &rest, fd, a);
				return;
			}
			if (!strcmp(verb, "remove")) {
				do_remove(first, dev, a);
				return;
			}
		}
		say(a, "error the words are: set NETNS DEV name=value ..., remove NETNS DEV, list [FROM], stats [FROM]\n");
	}
}

/* ---- the end: nothing to do and nobody talking to it for a while --------------------------------------- */

static unsigned clients;
static int idle_fd = -1;
static const char *socket_path;
static char lock_path[sizeof(((struct sockaddr_un *)0)->sun_path) + 8];
static int lock_fd = -1;

static void end_when_idle(void)
{
	struct itimerspec t = {.it_value = {.tv_sec = IDLE_S}};
	timerfd_settime(idle_fd, 0, &t, NULL);
}

static void idle_ready(struct watch *w, uint32_t events)
{
	struct stat ours, there;
	uint64_t expirations;
	(void)events;
	if (read(w->fd, &expirations, sizeof expirations) < 0 || clients)
		return;
	if (ports.count || closing_count) {
		end_when_idle();
		return;
	}
	/* Somebody may have deleted our files, and started another element at the same place. */
	if (!fstat(lock_fd, &ours) && !stat(lock_path, &there) && ours.st_ino == there.st_ino) {
		unlink(socket_path);
		unlink(lock_path);
	}
	exit(0);
}

static ssize_t receive(int socket, char *line, size_t size, int fd[2])
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
	} control;
	struct iovec part = {line, size - 1};
	struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	ssize_t n = recvmsg(socket, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	line[n > 0 ? n : 0] = 0;
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fd, CMSG_DATA(c), (count < 2 ? count : 2) * sizeof(int));
	}
	return n;
}

static void drop_descriptors(int fd[2])
{
	for (int i = 0; i < 2; i++)
		if (fd[i] >= 0)
			close(fd[i]);
}

static void client_ready(struct watch *w, uint32_t events)
{
	static struct answer a;
	char line[1024];
	int fd[2] = {-1, -1};
	(void)events;
	a.length = 0;
	ssize_t n = receive(w->fd, line, sizeof line, fd);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		obey(line, fd, &a);
		drop_descriptors(fd);
		if (send(w->fd, a.text, a.length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return;
	}
	close(w->fd);
	free(w);
	clients--;
	end_when_idle();
}

static void listener_ready(struct watch *w, uint32_t events)
{
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct watch *client = fd < 0 ? NULL : calloc(1, sizeof *client);
	(void)events;
	if (client) {
		watch_add(client, fd, EPOLLIN, client_ready);
		clients++;
	} else if (fd >= 0) {
		close(fd);
	}
}

/* ---- the loop ------------------------------------------------------------------------------------------ */

static void timer_ready(struct watch *w, uint32_t events)
{
	uint64_t expirations;
	(void)events;
	if (read(w->fd, &expirations, sizeof expirations) < 0)
		return; /* re-armed meanwhile */
	depart_due();
}

static void timer_arm(int timer, uint64_t at)
{
	static uint64_t armed = NEVER;
	if (at == armed)
		return;
	armed = at;
	struct itimerspec t = {0}; /* zero: disarmed */
	if (at != NEVER)
		t.it_value = (struct timespec){(time_t)(at / 1000000000), (long)(at % 1000000000)};
	timerfd_settime(timer, TFD_TIMER_ABSTIME, &t, NULL);
}

/* A timerfd, not the time-out of epoll_wait(2): the latter may be late by 0.1 % of the time to wait. */
static void run(int timer)
{
	struct epoll_event events[EVENTS];
	for (;;) {
		depart_due();
		uint64_t next = heap.count ? first_departure(heap.of[1]) : NEVER;
		bool soon = next != NEVER && next < clock_ns() + SPIN_NS;
		if (!soon)
			timer_arm(timer, next == NEVER ? NEVER : next - SPIN_NS / 2);
		int n = epoll_wait(events_fd, events, EVENTS, soon ? 0 : -1);
		for (int i = 0; i < n; i++) {
			struct watch *w = events[i].data.ptr;
			if (w->fd >= 0)
				w->ready(w, events[i].events);
		}
		bury();
	}
}

/* ---- start --------------------------------------------------------------------------------------------- */

static _Noreturn void fail(const char *doing, const char *what)
{
	fprintf(stderr, "%s %s: %s\n", doing, what, strerror(errno));
	exit(1);
}

static int listen_at(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof a.sun_path) {
		errno = ENAMETOOLONG;
		fail("listening at", path);
	}
	memcpy(a.sun_path, path, strlen(path));
	socket_path = path;
	snprintf(lock_path, sizeof lock_path, "%s.lock", path);
	lock_fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600); /* one element per socket */
	if (lock_fd < 0 || flock(lock_fd, LOCK_EX | LOCK_NB))
		fail("locking", lock_path);
	unlink(path);
	umask(0177);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 64))
		fail("listening at", path);
	return fd;
}

static int watch_directory(const char *path)
{
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (fd < 0 || inotify_add_watch(fd, path, IN_DELETE | IN_MOVED_FROM) < 0)
		fail("watching", path);
	return fd;
}

/* Each of these makes the element truer; none is worth failing for.  `list` tells whether it is real time. */
static void ask_for_priority(void)
{
	struct rlimit most;
	struct sched_param priority = {.sched_priority = REALTIME_PRIORITY};
	if (!getrlimit(RLIMIT_NOFILE, &most)) {
		most.rlim_cur = most.rlim_max = most.rlim_max > 1 << 20 ? most.rlim_max : 1 << 20;
		if (setrlimit(RLIMIT_NOFILE, &most) && !getrlimit(RLIMIT_NOFILE, &most)) {
			most.rlim_cur = most.rlim_max;
			setrlimit(RLIMIT_NOFILE, &most);
		}
	}
	prctl(PR_SET_TIMERSLACK, 1);
	mlockall(MCL_CURRENT); /* before the pool, which may be larger than what may be locked */
	realtime = !sched_setscheduler(0, SCHED_FIFO, &priority);
}

int main(int count, char **argument)
{
	static struct watch listener, directory, timer, recheck, idle;
	if (count != 4 || atoi(argument[3]) <= 0) {
		fprintf(stderr, "usage: element SOCKET NETNS_DIRECTORY MEMORY_MB\n");
		return 2;
	}
	netns_directory = argument[2];
	int listening = listen_at(argument[1]), watching = watch_directory(netns_directory);
	if (daemon(0, 0))
		fail("becoming", "a daemon");
	pthread_t closer;
	if (pthread_create(&closer, NULL, close_forever, NULL))
		return 1;
	ask_for_priority(); /* of this thread */
	pool_open((size_t)atoi(argument[3]));
	window_fill(SPAN);
	events_fd = epoll_create1(EPOLL_CLOEXEC);
	watch_add(&listener, listening, EPOLLIN, listener_ready);
	watch_add(&directory, watching, EPOLLIN, directory_ready);
	watch_add(&timer, timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), EPOLLIN, timer_ready);
	recheck_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	watch_add(&recheck, recheck_fd, EPOLLIN, recheck_ready);
	idle_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	watch_add(&idle, idle_fd, EPOLLIN, idle_ready);
	end_when_idle();
	run(timer.fd);
}
