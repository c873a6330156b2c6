#include "rate.h"

#include "clock.h"

static bool has_opportunities(const struct rate *r)
{
	return r->trace && r->trace->entries->opportunities;
}

/* ---- opportunities ------------------------------------------------------------------------------------- */

static uint64_t opportunity_at(const struct rate *r, uint64_t number) /* NEVER: in centuries */
{
	const struct entries *e = r->trace->entries;
	uint64_t at;
	if (__builtin_mul_overflow(number / e->count, e->period_ns, &at) || __builtin_add_overflow(at, r->begin, &at) ||
	    __builtin_add_overflow(at, series_ns(r->trace)[number % e->count], &at))
		return NEVER;
	return at;
}

static void skip_opportunities(struct rate *r, uint64_t now)
{
	const struct entries *e = r->trace->entries;
	if (r->left && opportunity_at(r, r->next - 1) <= now)
		r->left = 0;
	if (opportunity_at(r, r->next) > now)
		return;
	uint64_t cycle = (now - r->begin) / e->period_ns, phase = (now - r->begin) % e->period_ns, low = 0, high = e->count;
	while (low < high) { /* the first one that comes later */
		uint64_t middle = (low + high) / 2;
		if (series_ns(r->trace)[middle] > phase)
			high = middle;
		else
			low = middle + 1;
	}
	uint64_t number = cycle * e->count + low;
	r->next = number > r->next ? number : r->next;
}

static uint64_t finish_by_opportunities(struct rate *r, uint64_t bytes)
{
	if (bytes > r->left) {
		uint64_t more = (bytes - r->left + OPPORTUNITY - 1) / OPPORTUNITY;
		r->next += more;
		r->left += more * OPPORTUNITY;
	}
	r->left -= bytes;
	return opportunity_at(r, r->next - 1);
}

/* ---- steps --------------------------------------------------------------------------------------------- */

struct row {
	uint64_t index;          /* count: before the first one */
	uint64_t ends;           /* NEVER: it holds for ever */
};

static struct row row_at(const struct rate *r, uint64_t at)
{
	const struct entries *e = r->trace->entries;
	const struct step *steps = series_steps(r->trace);
	uint64_t since = at > r->begin ? at - r->begin : 0, low = 0, high = e->count;
	uint64_t cycle = e->period_ns ? since / e->period_ns * e->period_ns : 0, phase = since - cycle;
	while (low < high) { /* the first one that comes later */
		uint64_t middle = (low + high) / 2;
		if (steps[middle].at_ns > phase)
			high = middle;
		else
			low = middle + 1;
	}
	uint64_t ends = low < e->count ? steps[low].at_ns : e->period_ns ? e->period_ns : NEVER;
	return (struct row){low ? low - 1 : e->count, ends == NEVER ? NEVER : r->begin + cycle + ends};
}

const struct step *rate_step(const struct rate *r, uint64_t at)
{
	if (!r->trace || has_opportunities(r))
		return NULL;
	struct row row = row_at(r, at);
	return row.index < r->trace->entries->count ? series_steps(r->trace) + row.index : NULL;
}

#define NO_LIMIT NEVER

static uint64_t kbit_in(const struct rate *r, struct row row) /* 0: an outage */
{
	int64_t own = -1, kbit = row.index < r->trace->entries->count ? series_steps(r->trace)[row.index].rate_kbit : own;
	if (kbit == own)
		return r->kbit ? r->kbit : NO_LIMIT;
	return (uint64_t)kbit;
}

static uint64_t turn_by_steps(const struct rate *r, uint64_t from)
{
	for (uint64_t rows = r->trace->entries->count + 2; rows--; ) {
		struct row row = row_at(r, from);
		if (kbit_in(r, row))
			return from;
		if (row.ends == NEVER)
			break;
		from = row.ends;
	}
	return NEVER; /* a whole period without a rate */
}

static uint64_t finish_by_steps(const struct rate *r, uint64_t at, uint64_t bytes)
{
	uint64_t need = bytes * 8 * MILLION; /* 10^-6 bits: as many as a kbit/s gives in a ns */
	for (;;) {
		at = turn_by_steps(r, at);
		if (at == NEVER)
			return NEVER;
		struct row row = row_at(r, at);
		uint64_t kbit = kbit_in(r, row);
		if (kbit == NO_LIMIT)
			return at;
		uint64_t takes = need / kbit;
		if (row.ends == NEVER || takes <= row.ends - at)
			return at + takes;
		need -= (row.ends - at) * kbit;
		at = row.ends;
	}
}

/* ---- any ----------------------------------------------------------------------------------------------- */

void rate_skip(struct rate *r, uint64_t now)
{
	if (has_opportunities(r))
		skip_opportunities(r, now);
}

uint64_t rate_turn(const struct rate *r, uint64_t from)
{
	if (has_opportunities(r))
		return r->left ? from : opportunity_at(r, r->next);
	return r->trace ? turn_by_steps(r, from) : from;
}

uint64_t rate_finish(struct rate *r, uint64_t turn, uint64_t bytes)
{
	if (turn == NEVER)
		return NEVER;
	if (has_opportunities(r))
		return finish_by_opportunities(r, bytes);
	if (r->trace)
		return finish_by_steps(r, turn, bytes);
	return turn + (r->kbit ? bytes * 8 * MILLION / r->kbit : 0);
}
