/* Packets in order of departure.
 *
 * Those that depart no earlier than the last are a list; only packets that overtake others are in a pairing heap
 * (Fredman and others, 1986), so where order is kept each step takes the same time.
 */
#ifndef WIRE_H
#define WIRE_H

#include <stdint.h>

struct wire {
	uint32_t head, tail;  /* of the list */
	uint32_t overtakers;  /* root of the heap */
};

void wire_open(struct wire *w);
void wire_add(struct wire *w, uint32_t packet);
uint32_t wire_first(const struct wire *w); /* NONE: empty */
uint64_t wire_departure(const struct wire *w); /* of the first; NEVER: empty */
uint64_t wire_last_departure(const struct wire *w); /* of the list's last; 0: empty */
uint32_t wire_take(struct wire *w); /* the first; not for an empty one */

/* Take out the last of the list if it never departs; NONE if it does, or there is none. */
uint32_t wire_recall(struct wire *w);

#endif
