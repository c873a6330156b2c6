/* Packets that wait for their turn, in the order in which they came. */
#ifndef QUEUE_H
#define QUEUE_H

#include <stdint.h>

struct queue {
	uint32_t first, last;
	uint64_t frames, bytes;  /* on the wire: packets count as it will carry them */
	uint32_t largest;        /* bytes of the largest packet so far */
};

void queue_open(struct queue *q);
void queue_put(struct queue *q, uint32_t packet);
void queue_put_back(struct queue *q, uint32_t packet); /* it becomes the first again */
uint32_t queue_take(struct queue *q);                  /* NONE: nothing waits */

#endif
