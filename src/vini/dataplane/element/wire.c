#include "wire.h"

#include "clock.h"
#include "pool.h"

void wire_open(struct wire *w)
{
	w->head = w->tail = w->overtakers = NONE;
}

static uint64_t departure_of(uint32_t packet)
{
	return packet == NONE ? NEVER : pool.packets[packet].departure;
}

static uint32_t meld(uint32_t a, uint32_t b)
{
	if (a == NONE || b == NONE)
		return a == NONE ? b : a;
	uint32_t first = departure_of(b) < departure_of(a) ? b : a, second = first == a ? b : a;
	pool.packets[second].next = pool.packets[first].child;
	pool.packets[first].child = second;
	return first;
}

/* What is left of a heap whose root was taken: its children, melded two by two, then all from the last to the first. */
static uint32_t meld_children(uint32_t list)
{
	uint32_t pairs = NONE, root = NONE;
	while (list != NONE) {
		uint32_t a = list, b = pool.packets[a].next;
		list = b == NONE ? NONE : pool.packets[b].next;
		uint32_t pair = meld(a, b);
		pool.packets[pair].next = pairs;
		pairs = pair;
	}
	while (pairs != NONE) {
		uint32_t pair = pairs;
		pairs = pool.packets[pair].next;
		root = meld(root, pair);
	}
	return root;
}

void wire_add(struct wire *w, uint32_t packet)
{
	struct packet *k = &pool.packets[packet];
	k->next = k->child = NONE;
	if (w->head == NONE) {
		w->head = w->tail = packet;
	} else if (k->departure >= departure_of(w->tail)) {
		pool.packets[w->tail].next = packet;
		w->tail = packet;
	} else {
		w->overtakers = meld(w->overtakers, packet);
	}
}

uint32_t wire_first(const struct wire *w)
{
	if (w->overtakers != NONE && (w->head == NONE || departure_of(w->overtakers) < departure_of(w->head)))
		return w->overtakers;
	return w->head;
}

uint64_t wire_departure(const struct wire *w)
{
	return departure_of(wire_first(w));
}

uint64_t wire_last_departure(const struct wire *w)
{
	return w->tail == NONE ? 0 : pool.packets[w->tail].departure;
}

uint32_t wire_take(struct wire *w)
{
	uint32_t packet = wire_first(w);
	if (packet == w->overtakers) {
		w->overtakers = meld_children(pool.packets[packet].child);
	} else {
		w->head = pool.packets[packet].next;
		if (w->head == NONE)
			w->tail = NONE;
	}
	return packet;
}

uint32_t wire_recall(struct wire *w)
{
	uint32_t last = w->tail, before = NONE;
	if (last == NONE || departure_of(last) != NEVER)
		return NONE;
	for (uint32_t k = w->head; k != last; k = pool.packets[k].next)
		before = k;
	w->tail = before;
	if (before == NONE)
		w->head = NONE;
	else
		pool.packets[before].next = NONE;
	return last;
}
