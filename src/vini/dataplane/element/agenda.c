#include "agenda.h"

#include <stdlib.h>

#include "clock.h"

static struct {
	struct port **of; /* 1-based */
	size_t count, room;
} heap;

bool agenda_has_room(void)
{
	if (ports.count + 2 <= heap.room)
		return true;
	size_t room = 2 * ports.count + 64;
	struct port **of = realloc(heap.of, room * sizeof *of);
	if (!of)
		return false;
	heap.of = of;
	heap.room = room;
	return true;
}

static void put(size_t at, struct port *p)
{
	heap.of[at] = p;
	p->heap_at = at;
}

static void up(struct port *p)
{
	size_t at = p->heap_at;
	for (; at > 1 && heap.of[at / 2]->due > p->due; at /= 2)
		put(at, heap.of[at / 2]);
	put(at, p);
}

static void down(struct port *p)
{
	size_t at = p->heap_at;
	for (size_t child; (child = 2 * at) <= heap.count; at = child) {
		if (child < heap.count && heap.of[child + 1]->due < heap.of[child]->due)
			child++;
		if (heap.of[child]->due >= p->due)
			break;
		put(at, heap.of[child]);
	}
	put(at, p);
}

static void leave(struct port *p)
{
	struct port *last = heap.of[heap.count--];
	size_t at = p->heap_at;
	p->heap_at = 0;
	if (last == p)
		return;
	last->heap_at = at;
	up(last);
	down(last);
}

void agenda_set(struct port *p, uint64_t due)
{
	if (p->heap_at && p->due == due)
		return;
	p->due = due;
	if (due == NEVER) {
		if (p->heap_at)
			leave(p);
		return;
	}
	if (!p->heap_at)
		p->heap_at = ++heap.count;
	up(p);
	down(p);
}

struct port *agenda_first(void)
{
	return heap.count ? heap.of[1] : NULL;
}

void agenda_clear(void)
{
	heap.count = 0;
}
