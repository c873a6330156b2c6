#include "arrivals.h"

enum {
	ATTENTIVE_NS = 200000,   /* a shorter absence makes less of an error than a guess might */
	LONGEST_NS = 50000000,   /* a guess may be wrong by a whole absence */
	AT_ONCE_NS = 20000,      /* a wait of this length may have been none */
	FINE = 1024,             /* units of `interval` in a ns */
	MEMORY = 512,            /* packets that it remembers */
	PAUSE = 16,              /* intervals: a longer one without a packet is a pause of the flow */
};

static void learn(struct arrivals *a, uint64_t gap)
{
	uint64_t most = a->interval ? a->interval / FINE * PAUSE + 1000 : 100000000;
	uint64_t now = (gap < most ? gap : most) * FINE;
	if (!a->interval)
		a->interval = now;
	else
		a->interval = a->interval - a->interval / MEMORY + now / MEMORY;
}

static uint64_t latest_of(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t d = a > b ? a : b;
	return c > d ? c : d;
}

uint64_t arrivals_looked(uint64_t before, uint64_t begin, uint64_t wake, uint64_t now)
{
	if (!arrivals_slept(begin, now))
		return before;
	return wake >= now ? now : wake > begin ? wake : begin;
}

bool arrivals_slept(uint64_t begin, uint64_t now)
{
	return now >= begin + AT_ONCE_NS;
}

uint64_t arrivals_next(struct arrivals *a, uint64_t looked, uint64_t slept, uint64_t now)
{
	if (slept > a->read)
		arrivals_end(a, slept);
	a->read = now;
	uint64_t interval = a->interval / FINE;
	uint64_t from = a->is_behind ? a->latest : latest_of(a->latest, a->emptied, looked);
	bool was_away = now > from + ATTENTIVE_NS && now < from + LONGEST_NS;
	bool flowed = a->is_behind ? a->is_guess : interval && from - a->latest <= PAUSE * interval;
	uint64_t at = now > a->latest ? now : a->latest;
	a->is_guess = was_away && flowed;
	if (!a->is_guess && a->latest)
		learn(a, at - a->latest);
	if (a->is_guess && from + interval < at)
		at = from + interval;
	a->is_behind = true;
	a->latest = at;
	return at;
}

void arrivals_end(struct arrivals *a, uint64_t now)
{
	a->is_behind = false;
	a->emptied = now;
}
