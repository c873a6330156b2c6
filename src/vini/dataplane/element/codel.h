/* CoDel by RFC 8289, section 5: decides at a packet's turn by how long it waited.
 *
 * Target 5 ms, interval 100 ms.  Where the packet allows it, it is marked (CE) instead of dropped and forwarded, as
 * in Linux (include/net/codel_impl.h).
 */
#ifndef CODEL_H
#define CODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "live.h"
#include "queue.h"

struct codel {
	uint64_t first_above;    /* ns, when it will have been above the target for an interval; 0: it is below */
	uint64_t drop_next;
	uint32_t count, last_count;
	bool dropping;
};

/* The packet whose turn is now, taken from the queue; what is dropped before it goes to `drop`.  NONE: none is left. */
uint32_t codel_take(struct codel *c, struct queue *q, uint64_t now, void (*drop)(void *, uint32_t), void *with,
		    struct live *live);

#endif
