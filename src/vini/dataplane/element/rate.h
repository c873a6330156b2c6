/* When bytes get through: at a rate, at the rates of a trace's steps, or by a trace's opportunities.
 *
 * Opportunities are mahimahi's (src/frontend/link_queue.cc): each carries 1500 bytes of packets that were there
 * before it; what they leave unused is lost, and a packet may need several.
 */
#ifndef RATE_H
#define RATE_H

#include <stdbool.h>
#include <stdint.h>

#include "series.h"

enum { OPPORTUNITY = 1500 }; /* bytes */

struct rate {
	uint64_t kbit;               /* 0: no limit */
	const struct series *trace;  /* or NULL */
	uint64_t begin;              /* of the trace */
	uint64_t next;               /* opportunity, counted from the trace's beginning */
	uint64_t left;               /* bytes of the one before it, for packets that wait already */
};

/* At `now` nothing waits: opportunities up to then are lost. */
void rate_skip(struct rate *r, uint64_t now);

/* When the first byte goes of a packet that is the next from `from` on; NEVER: not at all. */
uint64_t rate_turn(const struct rate *r, uint64_t from);

/* When the last byte has gone, of those whose first goes at `turn`.  Uses opportunities up. */
uint64_t rate_finish(struct rate *r, uint64_t turn, uint64_t bytes);

/* The row of the trace that holds at `at`, or NULL: the port's own settings. */
const struct step *rate_step(const struct rate *r, uint64_t at);

#endif
