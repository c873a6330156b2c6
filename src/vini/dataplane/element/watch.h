/* What a process waits for: descriptors, by epoll(7). */
#ifndef WATCH_H
#define WATCH_H

#include <stdbool.h>
#include <stdint.h>

struct watch {
	void (*ready)(struct watch *, uint32_t events);
	int fd;                  /* -1: not watched (any more) */
	bool is_own;             /* of this process alone: a forked child closes it */
	struct watch *next, **at;
};

bool watches_open(void);

/* In a forked child: forget the parent's, and close what was its own. */
void watches_leave(void);

void watch_add(struct watch *w, int fd, uint32_t events, void (*ready)(struct watch *, uint32_t), bool is_own);
void watch_remove(struct watch *w); /* the descriptor stays open; its events of the present batch are not delivered */

/* Wait at most so long (-1: for ever), and then `watches_deliver` calls those that are ready. */
int watches_wait(int timeout_ms);
void watches_deliver(int count);

/* A timerfd of this process alone, watched. */
void timer_add(struct watch *w, void (*ready)(struct watch *, uint32_t));
bool timer_expired(struct watch *w); /* false: it was set anew meanwhile */
void timer_set(struct watch *w, uint64_t at); /* CLOCK_MONOTONIC, ns; NEVER: not at all */

#endif
