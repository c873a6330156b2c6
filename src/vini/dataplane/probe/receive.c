#include "receive.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include "fail.h"
#include "send.h"
#include "stream.h"

enum { BATCH = 64, PATIENCE_MS = 20 };
/* The kernel notes when a frame came, so it may be read later.  To wake us for each would take the link's sender longer than
 * all else that it does for a frame. */
static const struct timespec GATHER = {.tv_nsec = 1000000};
static atomic_bool stopping;
static uint8_t frames[BATCH][MOST_FRAME + 16];
static _Alignas(16) uint8_t notes[BATCH][128];

void receive_stop(void)
{
	atomic_store(&stopping, true);
}

static int64_t arrival_ns(struct msghdr *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) {
			struct timespec t;
			memcpy(&t, CMSG_DATA(c), sizeof t);
			return t.tv_sec * 1000000000LL + t.tv_nsec;
		}
	fail(EPROTO, "The kernel gives no times of arrival");
}

static void note(struct port *p, const uint8_t *frame, uint32_t bytes, int64_t at_ns)
{
	if (bytes < LEAST_FRAME)
		return;
	struct label label = frame_read(frame);
	if (label.stream >= stream_count || streams[label.stream].port != p - ports)
		return; /* another measurement's */
	struct stream *s = &streams[label.stream];
	if (label.number >= s->count)
		return;
	if (s->arrived == s->room) {
		s->room *= 2;
		s->arrivals = realloc(s->arrivals, s->room * sizeof *s->arrivals);
		if (!s->arrivals)
			fail(ENOMEM, "There is no memory for what arrives");
	}
	bool intact = frame_is_intact(frame, bytes, s->frame, s->bytes);
	s->arrivals[s->arrived++] = (struct arrival){label.number, !intact, at_ns};
}

/* All that waits at one vif. */
static void drain(struct port *p)
{
	struct mmsghdr m[BATCH];
	struct iovec io[BATCH];
	int n;
	do {
		for (int i = 0; i < BATCH; i++) {
			io[i] = (struct iovec){frames[i], sizeof frames[i]};
			m[i].msg_hdr = (struct msghdr){.msg_iov = &io[i], .msg_iovlen = 1, .msg_control = notes[i],
										   .msg_controllen = sizeof notes[i]};
		}
		n = recvmmsg(p->in, m, BATCH, MSG_DONTWAIT, NULL);
		for (int i = 0; i < n; i++)
			note(p, frames[i], m[i].msg_len, arrival_ns(&m[i].msg_hdr));
	} while (n == BATCH);
}

static void count_missed(struct port *p)
{
	struct tpacket_stats seen = {0};
	socklen_t size = sizeof seen;
	if (getsockopt(p->in, SOL_PACKET, PACKET_STATISTICS, &seen, &size))
		fail(errno, "The kernel does not count what was missed");
	p->missed += seen.tp_drops;
}

void *receive_all(void *nothing)
{
	promote(RECEIVERS_PRIORITY);
	int all = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ready[BATCH];
	for (int i = 0; i < port_count; i++)
		epoll_ctl(all, EPOLL_CTL_ADD, ports[i].in, &(struct epoll_event){.events = EPOLLIN, .data.u32 = (uint32_t)i});
	while (!atomic_load(&stopping)) {
		int n = epoll_wait(all, ready, BATCH, PATIENCE_MS);
		if (n > 0)
			clock_nanosleep(CLOCK_MONOTONIC, 0, &GATHER, NULL);
		for (int i = 0; i < n; i++)
			drain(&ports[ready[i].data.u32]);
	}
	for (int i = 0; i < port_count; i++) {
		drain(&ports[i]);
		count_missed(&ports[i]);
	}
	return nothing;
}
