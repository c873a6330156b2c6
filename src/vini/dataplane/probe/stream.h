/* A stream: frames of one size that leave a vif at a fixed pace and are awaited at the other end of its link. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frame.h"

struct arrival {
	uint32_t number, corrupted;
	int64_t at_ns; /* CLOCK_REALTIME, taken by the kernel as the frame came out of the link */
};

struct stream {
	/* asked */
	int64_t start_ns, interval_ns; /* of the first frame after the beginning; between frames */
	uint32_t count, ahead;         /* so many frames; the first `ahead` of them leave at once */
	uint32_t bytes;
	/* made when it is opened */
	bool control;  /* over our own loopback: it tells how punctual the machine is */
	int out, port; /* packet socket of the sending vif; number of the receiving one; -1: on another machine */
	uint8_t frame[MOST_FRAME];
	/* found */
	uint32_t sent;
	int64_t *sent_at_ns;
	struct arrival *arrivals;
	size_t arrived, room;
};

/* A vif at which frames arrive: one for all streams that end there. */
struct port {
	char netns[256], dev[32];
	int in;
	uint8_t mac[6];
	uint32_t missed; /* frames that this program was too slow to read */
};

/* Opens the sockets of a stream from `dev` in `netns` to `peer` in `peer_netns`; "-" is a namespace of our own, for
 * its loopback; "@" is another machine, with the vif's address instead of its name.  Ends the program with a sentence where that fails. */
void stream_open(struct stream *s, uint32_t number, const char *netns, const char *dev, const char *peer_netns,
				 const char *peer);

/* When frame number n is due, in ns after the beginning. */
static inline int64_t stream_due(const struct stream *s, uint32_t n)
{
	return s->start_ns + (n < s->ahead ? 0 : (int64_t)(n - s->ahead + 1) * s->interval_ns);
}

extern struct stream *streams;
extern uint32_t stream_count;
extern struct port *ports;
extern int port_count;
