/* One direction of one link: what happens to its packets, and when.  It sees no clock, no descriptor and no other line.
 *
 *   packet -> loss -> duplicate -> corrupt -> queue -> rate or trace -> delay -> out
 *
 * Time is what the caller says, and never goes back, but that an arrival may be told late. A packet's turn comes at a time that follows from the packets
 * before it alone, so a caller that comes late delays packets but never changes the rate, nor what the AQM decides.
 */
#ifndef LINE_H
#define LINE_H

#include <stdint.h>

#include "codel.h"
#include "live.h"
#include "queue.h"
#include "rate.h"
#include "series.h"
#include "shape.h"
#include "wire.h"

struct line {
	const struct shape *shape;
	const struct series *table, *lose;
	struct live *live;
	struct rate rate;
	struct queue queue;
	struct codel codel;
	struct wire wire;
	uint64_t now;            /* the latest time it was told */
	uint64_t arrived;        /* the latest arrival, or change of settings */
	uint64_t turn;           /* of the queue's first packet; NEVER: none comes */
	uint64_t busy_until;     /* the last packet that had its turn is on its way then */
	uint64_t last_departure; /* of those that keep order */
	uint32_t cells;          /* of the pool, that it holds */
};

/* What sending one packet takes, ns: it departs so much earlier, as far as its delay allows. */
extern uint64_t line_sending_ns;

void line_open(struct line *l, const struct shape *shape, struct live *live);
void line_close(struct line *l); /* its packets are lost */

/* The settings in `shape` are new, all turns up to now having been taken with the old ones, and these are the files.
 * What is on the wire stays there; what waits gets a new turn where the rate or the trace changed. */
void line_change(struct line *l, const struct series *const files[ROLES], uint64_t trace_begin, uint64_t now);

/* A packet of that length, vnet header included, is in the window; it came at `at`, after all that came before. */
void line_arrive(struct line *l, uint32_t length, uint64_t at);

/* Whose turn has come goes on the wire. */
void line_advance(struct line *l, uint64_t now);

/* When something is to be done: a packet departs, or one has its turn that might be the next to depart. */
uint64_t line_next(const struct line *l);

/* A packet that departs by `now`, taken out; the caller's to free.  NONE: none does. */
uint32_t line_depart(struct line *l, uint64_t now);

#endif
