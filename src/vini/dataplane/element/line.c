#include "line.h"

#include <stdbool.h>
#include <string.h>

#include "chance.h"
#include "clock.h"
#include "frame.h"
#include "pool.h"

uint64_t line_sending_ns;

void line_open(struct line *l, const struct shape *shape, struct live *live)
{
	*l = (struct line){.shape = shape, .live = live, .turn = NEVER};
	queue_open(&l->queue);
	wire_open(&l->wire);
}

static void lose(void *line, uint32_t packet)
{
	struct line *l = line;
	l->cells -= cells_of(pool.packets[packet].length);
	packet_free(packet);
}

void line_close(struct line *l)
{
	for (uint32_t k; (k = queue_take(&l->queue)) != NONE; )
		lose(l, k);
	while (wire_first(&l->wire) != NONE)
		lose(l, wire_take(&l->wire));
	l->turn = NEVER;
}

/* ---- the queue's end: turns ---------------------------------------------------------------------------- */

static void find_turn(struct line *l)
{
	l->turn = NEVER;
	if (l->queue.first == NONE)
		return;
	uint64_t arrival = pool.packets[l->queue.first].arrival;
	l->turn = rate_turn(&l->rate, l->busy_until > arrival ? l->busy_until : arrival);
}

/* The last bit has left at `finish`, and now travels. */
static void travel(struct line *l, uint32_t packet, uint64_t finish)
{
	const struct shape *s = l->shape;
	struct packet *k = &pool.packets[packet];
	uint64_t delay = finish == NEVER ? 0 : chance_delay_ns(s, l->table, rate_step(&l->rate, finish), &l->live->random);
	k->departure = finish + (delay > line_sending_ns ? delay - line_sending_ns : 0);
	if (random_hits(&l->live->random, s->reorder_ppm)) {
		l->live->reordered += finish < l->last_departure;
		k->departure = finish;
	} else if (k->departure < l->last_departure) {
		if (s->keeps_order)
			k->departure = l->last_departure;
		else
			l->live->reordered++;
	} else {
		l->last_departure = k->departure;
	}
	wire_add(&l->wire, packet);
}

static void take_turn(struct line *l)
{
	uint64_t at = l->turn;
	uint32_t packet = l->shape->aqm == CODEL ? codel_take(&l->codel, &l->queue, at, lose, l, l->live)
						 : queue_take(&l->queue);
	if (packet != NONE) {
		l->busy_until = rate_finish(&l->rate, at, pool.packets[packet].wire);
		travel(l, packet, l->busy_until);
	}
	find_turn(l);
}

void line_advance(struct line *l, uint64_t now)
{
	if (now > l->now)
		l->now = now;
	while (l->turn <= now)
		take_turn(l);
	l->live->waiting = l->queue.frames;
}

/* ---- the queue's beginning ----------------------------------------------------------------------------- */

/* How long a packet that came now would wait for its turn. */
static uint64_t wait_ns(const struct line *l, uint64_t now)
{
	struct rate ahead = l->rate;
	uint64_t free_at = l->busy_until > now ? l->busy_until : now;
	if (l->queue.bytes)
		free_at = rate_finish(&ahead, l->turn, l->queue.bytes);
	uint64_t turn = free_at == NEVER ? NEVER : rate_turn(&ahead, free_at);
	return turn == NEVER ? NEVER : turn - now;
}

/* A port may hold as much as is left for all others (dynamic threshold, Choudhury and Hahne 1998):
 * one flooded link can't take the others' memory. */
static bool has_memory(const struct line *l, uint32_t length)
{
	return (uint64_t)l->cells + cells_of(length) <= pool.free_count;
}

static bool has_place(const struct line *l, struct frames f, uint64_t now)
{
	const struct shape *s = l->shape;
	if (l->queue.first == NONE && rate_turn(&l->rate, l->busy_until > now ? l->busy_until : now) <= now)
		return true; /* it needn't wait */
	if (s->queue_packets && l->queue.frames + f.count > s->queue_packets)
		return false;
	if (s->queue_bytes && l->queue.bytes + f.bytes > s->queue_bytes)
		return false;
	return !s->queue_us || wait_ns(l, now) <= s->queue_us * 1000;
}

static void enter(struct line *l, uint32_t packet, struct frames f, uint64_t now)
{
	struct packet *k = &pool.packets[packet];
	k->arrival = now;
	k->frames = f.count;
	k->wire = f.bytes;
	l->cells += cells_of(k->length);
	if (random_hits(&l->live->random, l->shape->corrupt_ppm)) {
		l->live->corrupted++;
		if (!frame_corrupt(packet, &l->live->random)) {
			l->live->lost++; /* a large segment: what the receiver would drop, it doesn't get */
			lose(l, packet);
			return;
		}
	}
	queue_put(&l->queue, packet);
	if (l->queue.first == packet)
		find_turn(l);
	line_advance(l, now);
}

void line_arrive(struct line *l, uint32_t length, uint64_t at)
{
	l->arrived = at = at > l->arrived ? at : l->arrived;
	line_advance(l, at);
	if (l->queue.first == NONE)
		rate_skip(&l->rate, at);
	l->live->received++;
	if (chance_loses(l->shape, l->lose, rate_step(&l->rate, at), l->live)) {
		l->live->lost++;
		return;
	}
	struct frames f = frame_count(window.parts[0].iov_base, length);
	bool again = random_hits(&l->live->random, l->shape->duplicate_ppm);
	l->live->duplicated += again;
	if (!has_memory(l, length) || !has_place(l, f, at)) {
		l->live->dropped += 1u + again;
		return;
	}
	uint32_t packet = window_claim(length);
	uint32_t copy = again && has_memory(l, 2 * length) ? packet_copy(packet) : NONE;
	enter(l, packet, f, at);
	if (copy != NONE && has_place(l, f, at)) {
		enter(l, copy, f, at);
	} else if (again) {
		l->live->dropped++;
		if (copy != NONE)
			packet_free(copy);
	}
}

/* ---- departures ---------------------------------------------------------------------------------------- */

static bool may_overtake(const struct line *l)
{
	return !l->shape->keeps_order || l->shape->reorder_ppm;
}

/* Whose turn comes later departs no earlier than what is on the wire, so its turn may be taken late. */
uint64_t line_next(const struct line *l)
{
	uint64_t departure = wire_departure(&l->wire);
	return l->turn < departure && (departure == NEVER || may_overtake(l)) ? l->turn : departure;
}

uint32_t line_depart(struct line *l, uint64_t now)
{
	line_advance(l, now);
	if (wire_departure(&l->wire) > now)
		return NONE;
	uint32_t packet = wire_take(&l->wire);
	l->cells -= cells_of(pool.packets[packet].length);
	return packet;
}

/* ---- changes ------------------------------------------------------------------------------------------- */

static void change_trace(struct line *l, const struct series *trace, uint64_t begin, uint64_t now)
{
	uint32_t stuck = wire_recall(&l->wire); /* it would never have left */
	if (stuck != NONE) {
		l->busy_until = now;
		l->last_departure = wire_last_departure(&l->wire);
		queue_put_back(&l->queue, stuck);
	}
	l->rate = (struct rate){.trace = trace, .begin = begin};
	rate_skip(&l->rate, l->busy_until > now ? l->busy_until : now);
}

void line_change(struct line *l, const struct series *const files[ROLES], uint64_t trace_begin, uint64_t now)
{
	l->now = l->arrived = now = now > l->now ? now : l->now;
	l->table = files[TABLE_FILE];
	l->lose = files[LOSE_FILE];
	uint64_t lose_id = l->lose ? l->lose->id : 0;
	if (l->live->lose != lose_id) {
		l->live->lose = lose_id;
		l->live->arrived = 0;
	}
	if (l->rate.trace != files[TRACE_FILE] || l->rate.begin != trace_begin || l->rate.kbit != l->shape->rate_kbit)
		change_trace(l, files[TRACE_FILE], trace_begin, now);
	l->rate.kbit = l->shape->rate_kbit;
	if (l->shape->aqm != CODEL)
		l->codel = (struct codel){0};
	find_turn(l);
	if (l->turn < now)
		l->turn = now;
}
