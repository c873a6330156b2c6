/* When packets came that wait in a TAP, which doesn't tell.
 *
 * Who is attentive reads a packet as it comes. After an absence (another virtual machine had the processor, say) the
 * packets that wait came at any time since the TAP was last empty. Taken as if they came now, all of them would be late
 * by the whole absence, and where there is a rate, those after them as well, until it has caught up. So if a flow was
 * there when the absence began, its packets are taken to have come on as evenly as before it.  If it did not (its
 * sender was stopped as well, say), they depart too early, by 50 ms at most: who was away for longer takes them to have
 * come now.
 */
#ifndef ARRIVALS_H
#define ARRIVALS_H

#include <stdbool.h>
#include <stdint.h>

struct arrivals {
	uint64_t latest;         /* arrival, as it was told */
	uint64_t emptied;        /* when the TAP was last seen empty */
	uint64_t read;           /* when it was last read */
	uint64_t interval;       /* between arrivals lately, in 1/1024 ns; 0: not known */
	bool is_behind;          /* what comes next was there already when `latest` was read */
	bool is_guess;           /* `latest` */
};

/* Until when surely nobody was away, so that TAPs that can be read now were empty then.  `before` is when the wait before
 * this one ended; this one, which sleeps, began at `begin`, was to end by a timer at `wake` (NEVER: by none), and ended
 * at `now`.
 *
 * Had there been something to read already, it would have ended at once.  Who sleeps is woken by a packet, unless the
 * timer should have woken him before that: then he was away from there on. */
uint64_t arrivals_looked(uint64_t before, uint64_t begin, uint64_t wake, uint64_t now);

/* Whether that wait slept. */
bool arrivals_slept(uint64_t begin, uint64_t now);

/* When the packet came that is read at `now`, if the TAP was empty at `looked`, or was not read to its end and nobody
 * slept since (`slept`: when the latest wait that slept began, to which nothing was left).  Never goes back, and never
 * after `now`. */
uint64_t arrivals_next(struct arrivals *a, uint64_t looked, uint64_t slept, uint64_t now);

/* Nothing is left to read. */
void arrivals_end(struct arrivals *a, uint64_t now);

#endif
