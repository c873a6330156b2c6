#include "traffic.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <linux/types.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "agenda.h"
#include "clock.h"
#include "frame.h"
#include "pool.h"
#include "shared.h"

enum {
	READS = 32,              /* packets taken from one TAP before looking at the clock's demands again */
	SENDS = 32,              /* packets given to the kernel in one call */
	RECHECK_NS = 50000000,   /* of vifs that are down */
	SENDING_MOST_NS = 20000, /* that a packet may be sent early to make up for what sending takes */
};

struct round round_now;
void (*traffic_gone)(struct port *p);

/* ---- in ------------------------------------------------------------------------------------------------ */

static void tap_ready(struct watch *w, uint32_t events)
{
	struct port *p = (struct port *)((char *)w - offsetof(struct port, tap_watch));
	(void)events;
	for (int i = 0; i < READS; i++) {
		ssize_t n = readv(w->fd, window.parts, SPAN);
		if (n > VNET_HEADER) {
			p->line.live->stalled += round_now.is_stalled;
			line_arrive(&p->line, (uint32_t)n, arrivals_next(&p->arrivals, round_now.looked, round_now.slept, clock_ns()));
		} else if (n < 0 && errno == EAGAIN) {
			arrivals_end(&p->arrivals, clock_ns());
			break;
		} else if (n <= 0 && errno != EINTR) {
			traffic_gone(p); /* EBADFD: somebody deleted the TAP */
			return;
		}
	}
	agenda_set(p, line_next(&p->line));
	traffic_depart();
}

/* ---- out ----------------------------------------------------------------------------------------------- */

static struct {
	uint32_t packets[SENDS];
	struct mmsghdr message[SENDS];
	struct iovec part[SENDS * SPAN];
} outgoing;

static unsigned gather(struct port *p, uint64_t now, struct sockaddr_ll *to)
{
	unsigned n = 0;
	struct iovec *part = outgoing.part;
	for (uint32_t k; n < SENDS && (k = line_depart(&p->line, now)) != NONE; n++) {
		uint32_t parts = packet_parts(k, part);
		p->line.live->late += now - pool.packets[k].departure > LATE_NS;
		outgoing.packets[n] = k;
		outgoing.message[n].msg_hdr = (struct msghdr){to, sizeof *to, part, parts, NULL, 0, 0};
		part += parts;
	}
	return n;
}

/* False: the vif is gone. */
static bool send_all(struct port *p, unsigned count)
{
	for (unsigned done = 0; done < count; ) {
		int sent = sendmmsg(p->out, outgoing.message + done, count - done, MSG_DONTWAIT);
		if (sent > 0) {
			p->line.live->sent += (unsigned)sent;
			p->is_down = false;
			done += (unsigned)sent;
		} else if (errno == ENXIO) {
			return false;
		} else {
			p->line.live->refused++;
			done++;
		}
	}
	return true;
}

/* The least of it, for a packet must not depart early: down at once, up slowly. */
static void learn_sending(uint64_t took)
{
	took = took < SENDING_MOST_NS ? took : SENDING_MOST_NS;
	line_sending_ns = took < line_sending_ns ? took : line_sending_ns + (took - line_sending_ns) / 64;
}

static unsigned depart(struct port *p, uint64_t now)
{
	/* The address names the vif, and no protocol: the kernel then reads it from the frame. */
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)p->shape.ifindex};
	unsigned due = gather(p, now, &to);
	bool is_there = send_all(p, due);
	for (unsigned i = 0; i < due; i++)
		packet_free(outgoing.packets[i]);
	if (!is_there) {
		traffic_gone(p);
		return due;
	}
	if (due == 1)
		learn_sending((clock_ns() - now) / 2); /* the receiver has it before our call returns */
	agenda_set(p, line_next(&p->line));
	return due;
}

void traffic_depart(void)
{
	struct port *p;
	for (unsigned done = 0; (p = agenda_first()) && done < 4 * SENDS; ) {
		uint64_t now = clock_ns();
		if (p->due > now)
			return;
		done += 1 + depart(p, now);
	}
}

/* ---- vifs that go away --------------------------------------------------------------------------------- */

/* A packet socket says once that its vif went down, and not that the vif was deleted after that.  So ports
 * whose vif is down are looked at now and then, until they send again or their socket has lost its vif. */
static struct watch recheck;

static bool has_lost_vif(const struct port *p)
{
	struct sockaddr_ll at = {0};
	socklen_t size = sizeof at;
	if (getsockname(p->out, (struct sockaddr *)&at, &size))
		return true;
	return at.sll_family == AF_PACKET && at.sll_ifindex <= 0;
}

static void out_ready(struct watch *w, uint32_t events)
{
	struct port *p = (struct port *)((char *)w - offsetof(struct port, out_watch));
	int error;
	getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof error}); /* and forget it */
	p->is_down = true;
	timer_set(&recheck, clock_ns() + RECHECK_NS);
	if (events & EPOLLHUP || has_lost_vif(p))
		traffic_gone(p);
}

void traffic_recheck(void)
{
	bool again = false;
	for (size_t i = ports.count; i-- > 0; ) {
		struct port *p = ports.of[i];
		if (!p->is_down)
			continue;
		again = true;
		if (has_lost_vif(p))
			traffic_gone(p);
	}
	timer_set(&recheck, again ? clock_ns() + RECHECK_NS : NEVER);
}

static void recheck_ready(struct watch *w, uint32_t events)
{
	(void)events;
	if (timer_expired(w))
		traffic_recheck();
}

/* ---- ports --------------------------------------------------------------------------------------------- */

void traffic_open(void)
{
	timer_add(&recheck, recheck_ready);
}

void traffic_start(struct port *p)
{
	p->heap_at = 0;
	p->arrivals = (struct arrivals){0};
	p->is_down = true; /* until it sends: it may have happened before we listened */
	line_open(&p->line, &p->shape, &shared->live[p->slot]);
	line_change(&p->line, (const struct series *const *)p->files, p->trace_begin, clock_ns());
	watch_add(&p->tap_watch, p->tap, EPOLLIN, tap_ready, false);
	watch_add(&p->out_watch, p->out, 0, out_ready, false); /* errors only */
}

void traffic_stop(struct port *p)
{
	watch_remove(&p->tap_watch);
	watch_remove(&p->out_watch);
	line_close(&p->line);
	agenda_set(p, NEVER);
}

void traffic_change(struct port *p, const struct shape *shape, struct series *const files[ROLES], uint64_t trace_begin)
{
	uint64_t now = clock_ns();
	line_advance(&p->line, now);
	p->shape = *shape;
	p->trace_begin = trace_begin;
	line_change(&p->line, (const struct series *const *)files, trace_begin, now);
	port_take_files(p, files);
	agenda_set(p, line_next(&p->line));
}
