#include "codel.h"

#include <math.h>

#include "clock.h"
#include "frame.h"
#include "pool.h"

#define TARGET_NS 5000000u
#define INTERVAL_NS 100000000u

struct taken {
	uint32_t packet;
	bool ok_to_drop;
};

static struct taken take(struct codel *c, struct queue *q, uint64_t now)
{
	struct taken t = {queue_take(q), false};
	if (t.packet == NONE) {
		c->first_above = 0;
		return t;
	}
	uint64_t sojourn = now - pool.packets[t.packet].arrival;
	if (sojourn < TARGET_NS || q->bytes <= q->largest)
		c->first_above = 0;
	else if (!c->first_above)
		c->first_above = now + INTERVAL_NS;
	else
		t.ok_to_drop = now >= c->first_above;
	return t;
}

static uint64_t control_law(uint64_t at, uint32_t count)
{
	return at + (uint64_t)(INTERVAL_NS / sqrt(count));
}

struct dropper {
	void (*drop)(void *, uint32_t);
	void *with;
	struct live *live;
};

/* True: it was marked, and goes on. */
static bool marks(const struct dropper *d, uint32_t packet)
{
	if (frame_mark(packet)) {
		d->live->marked++;
		return true;
	}
	d->live->managed++;
	d->drop(d->with, packet);
	return false;
}

static uint32_t go_on_dropping(struct codel *c, struct queue *q, uint64_t now, const struct dropper *d, struct taken t)
{
	c->dropping = t.ok_to_drop;
	while (c->dropping && now >= c->drop_next) {
		c->count++;
		if (marks(d, t.packet)) {
			c->drop_next = control_law(c->drop_next, c->count);
			break;
		}
		t = take(c, q, now);
		c->dropping = t.ok_to_drop;
		if (c->dropping)
			c->drop_next = control_law(c->drop_next, c->count);
	}
	return t.packet;
}

static uint32_t begin_dropping(struct codel *c, struct queue *q, uint64_t now, const struct dropper *d, struct taken t)
{
	if (!marks(d, t.packet))
		t = take(c, q, now);
	c->dropping = true;
	uint32_t delta = c->count - c->last_count;
	c->count = delta > 1 && now - c->drop_next < 16 * (uint64_t)INTERVAL_NS ? delta : 1;
	c->drop_next = control_law(now, c->count);
	c->last_count = c->count;
	return t.packet;
}

uint32_t codel_take(struct codel *c, struct queue *q, uint64_t now, void (*drop)(void *, uint32_t), void *with,
		    struct live *live)
{
	struct dropper d = {drop, with, live};
	struct taken t = take(c, q, now);
	if (c->dropping)
		return go_on_dropping(c, q, now, &d, t);
	return t.ok_to_drop ? begin_dropping(c, q, now, &d, t) : t.packet;
}
