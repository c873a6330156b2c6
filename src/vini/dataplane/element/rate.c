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

/* What all rows before one give is known (series.h), so nothing here takes longer where a trace has more of them. */

#define NO_LIMIT ((uint64_t)1 << 62)

static uint64_t kbit_in(const struct rate *r, const struct step *row) /* 0: an outage */
{
	if (row->rate_kbit >= 0)
		return (uint64_t)row->rate_kbit;
	return r->kbit ? r->kbit : NO_LIMIT;
}

/* What a period has given when that row begins. */
static amount given_before(const struct rate *r, const struct step *row)
{
	return row->gives + (amount)row->own_ns * (r->kbit ? r->kbit : NO_LIMIT);
}

/* The last row that begins by then. */
static const struct step *row_at(const struct rate *r, uint64_t phase)
{
	const struct step *steps = series_steps(r->trace);
	uint64_t low = 0, high = r->trace->entries->count;
	while (high - low > 1) {
		uint64_t middle = low + (high - low) / 2;
		if (steps[middle].at_ns > phase)
			high = middle;
		else
			low = middle;
	}
	return steps + low;
}

/* The row in which a period has given so much, more than nothing: the last one that begins with less. */
static const struct step *row_of(const struct rate *r, amount given)
{
	const struct step *steps = series_steps(r->trace);
	uint64_t low = 0, high = r->trace->entries->count;
	while (high - low > 1) {
		uint64_t middle = low + (high - low) / 2;
		if (given_before(r, steps + middle) >= given)
			high = middle;
		else
			low = middle;
	}
	return steps + low;
}

/* Where a time is in the trace: how many periods are over, and what is left. */
struct place {
	uint64_t cycle, phase;
};

static struct place place_of(const struct rate *r, uint64_t at)
{
	uint64_t period = r->trace->entries->period_ns, since = at > r->begin ? at - r->begin : 0;
	return period ? (struct place){since / period, since % period} : (struct place){0, since};
}

const struct step *rate_step(const struct rate *r, uint64_t at)
{
	if (!r->trace || has_opportunities(r))
		return NULL;
	return row_at(r, place_of(r, at).phase);
}

/* When so much has been given since `at`, of which the last bit goes in a row with a rate: that time, or with `begins`
 * when that row began, if that is later than `at`. */
static uint64_t when_given(const struct rate *r, uint64_t at, amount more, bool begins)
{
	const struct entries *e = r->trace->entries;
	struct place place = place_of(r, at);
	const struct step *row = row_at(r, place.phase);
	amount given = given_before(r, row) + (amount)kbit_in(r, row) * (place.phase - row->at_ns) + more;
	if (e->period_ns) {
		amount whole = given_before(r, series_steps(r->trace) + e->count);
		if (!whole)
			return NEVER;
		amount over = (given - 1) / whole;
		if (over > NO_LIMIT / e->period_ns)
			return NEVER; /* in a century */
		place.cycle += (uint64_t)over;
		given -= over * whole;
	}
	row = row_of(r, given);
	if (!kbit_in(r, row))
		return NEVER;
	uint64_t begin = r->begin + place.cycle * e->period_ns + row->at_ns;
	if (begins)
		return begin > at ? begin : at;
	return begin + (uint64_t)((given - given_before(r, row)) / kbit_in(r, row));
}

static uint64_t turn_by_steps(const struct rate *r, uint64_t from)
{
	return kbit_in(r, row_at(r, place_of(r, from).phase)) ? from : when_given(r, from, 1, true);
}

static uint64_t finish_by_steps(const struct rate *r, uint64_t at, uint64_t bytes)
{
	at = turn_by_steps(r, at);
	return at == NEVER || !bytes ? at : when_given(r, at, (amount)bytes * 8 * MILLION, false);
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
