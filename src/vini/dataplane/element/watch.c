#include "watch.h"

#include <stdio.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "clock.h"

enum { EVENTS = 64 };

static int events_fd = -1;
static struct watch *all;
static struct epoll_event events[EVENTS];

bool watches_open(void)
{
	events_fd = epoll_create1(EPOLL_CLOEXEC);
	return events_fd >= 0;
}

static void unlist(struct watch *w)
{
	*w->at = w->next;
	if (w->next)
		w->next->at = w->at;
}

void watches_leave(void)
{
	close(events_fd);
	while (all) {
		struct watch *w = all;
		unlist(w);
		if (w->is_own)
			close(w->fd);
		w->fd = -1;
	}
}

void watch_add(struct watch *w, int fd, uint32_t wanted, void (*ready)(struct watch *, uint32_t), bool is_own)
{
	struct epoll_event e = {.events = wanted, .data.ptr = w};
	*w = (struct watch){.ready = ready, .fd = fd, .is_own = is_own, .next = all, .at = &all};
	if (all)
		all->at = &w->next;
	all = w;
	if (epoll_ctl(events_fd, EPOLL_CTL_ADD, fd, &e))
		perror("element: epoll_ctl");
}

void watch_remove(struct watch *w)
{
	epoll_ctl(events_fd, EPOLL_CTL_DEL, w->fd, NULL);
	unlist(w);
	w->fd = -1;
}

int watches_wait(int timeout_ms)
{
	return epoll_wait(events_fd, events, EVENTS, timeout_ms);
}

void watches_deliver(int count)
{
	for (int i = 0; i < count; i++) {
		struct watch *w = events[i].data.ptr;
		if (w->fd >= 0)
			w->ready(w, events[i].events);
	}
}

void timer_add(struct watch *w, void (*ready)(struct watch *, uint32_t))
{
	watch_add(w, timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), EPOLLIN, ready, true);
}

bool timer_expired(struct watch *w)
{
	uint64_t expirations;
	return read(w->fd, &expirations, sizeof expirations) > 0;
}

void timer_set(struct watch *w, uint64_t at)
{
	struct itimerspec t = {0}; /* zero: disarmed */
	if (at != NEVER)
		t.it_value = (struct timespec){(time_t)(at / BILLION), (long)(at % BILLION)};
	timerfd_settime(w->fd, TFD_TIMER_ABSTIME, &t, NULL);
}
