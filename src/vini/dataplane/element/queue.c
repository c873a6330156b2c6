#include "queue.h"

#include "clock.h"
#include "pool.h"

void queue_open(struct queue *q)
{
	*q = (struct queue){.first = NONE, .last = NONE};
}

static void count(struct queue *q, const struct packet *k)
{
	q->frames += k->frames;
	q->bytes += k->wire;
	if (k->wire > q->largest)
		q->largest = k->wire;
}

void queue_put(struct queue *q, uint32_t packet)
{
	pool.packets[packet].next = NONE;
	if (q->first == NONE)
		q->first = packet;
	else
		pool.packets[q->last].next = packet;
	q->last = packet;
	count(q, &pool.packets[packet]);
}

void queue_put_back(struct queue *q, uint32_t packet)
{
	pool.packets[packet].next = q->first;
	q->first = packet;
	if (q->last == NONE)
		q->last = packet;
	count(q, &pool.packets[packet]);
}

uint32_t queue_take(struct queue *q)
{
	uint32_t packet = q->first;
	if (packet == NONE)
		return NONE;
	q->first = pool.packets[packet].next;
	if (q->first == NONE)
		q->last = NONE;
	q->frames -= pool.packets[packet].frames;
	q->bytes -= pool.packets[packet].wire;
	return packet;
}
