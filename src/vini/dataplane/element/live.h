/* What a worker's successor must know of a port: its counters, and where its chances stand.  In memory that all
 * processes of the element share, so that it outlives each of them. */
#ifndef LIVE_H
#define LIVE_H

#include <stdint.h>

#include "random.h"

struct live {
	uint64_t received, sent;                  /* packets; a large segment is one */
	uint64_t lost;                            /* by intent */
	uint64_t dropped;                         /* queue or memory full */
	uint64_t refused;                         /* by the kernel: vif down, or a silent fault */
	uint64_t late;                            /* sent more than LATE_NS after their time */
	uint64_t waiting;                         /* for their turn, now */
	uint64_t duplicated, corrupted, reordered;
	uint64_t managed, marked;                 /* by the AQM: dropped, marked with CE */
	uint64_t stalled;                         /* read after the element was away for more than LATE_NS */
	struct random random;
	uint64_t bad;                             /* the Gilbert-Elliott model is in its bad state */
	uint64_t arrived, lose;                   /* packets since the loss list of that id was set */
};

enum { LATE_NS = 1000000 };

#endif
