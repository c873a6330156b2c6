#include "chance.h"

#include <math.h>

static bool is_listed(const struct series *lose, uint64_t number)
{
	const struct range *ranges = series_ranges(lose);
	uint64_t low = 0, high = lose->entries->count;
	while (low < high) { /* the first range that doesn't end before it */
		uint64_t middle = (low + high) / 2;
		if (ranges[middle].last >= number)
			high = middle;
		else
			low = middle + 1;
	}
	return low < lose->entries->count && ranges[low].first <= number;
}

/* Gilbert and Elliott: the state decides, and then may change; the order is netem's. */
static bool state_loses(const struct shape *s, struct live *live)
{
	uint64_t loss = live->bad ? s->bad_ppm : s->good_ppm;
	if (random_hits(&live->random, live->bad ? s->leave_ppm : s->enter_ppm))
		live->bad = !live->bad;
	return random_hits(&live->random, loss);
}

bool chance_loses(const struct shape *s, const struct series *lose, const struct step *step, struct live *live)
{
	uint64_t loss = step && step->loss_ppm >= 0 ? (uint64_t)step->loss_ppm : s->loss_ppm;
	/* atomic: the keeper may set it */
	bool lost = lose && is_listed(lose, __atomic_add_fetch(&live->arrived, 1, __ATOMIC_RELAXED));
	if (s->enter_ppm && state_loses(s, live))
		lost = true;
	return random_hits(&live->random, loss) || lost;
}

static double of_table(const struct series *table, struct random *r) /* us; inverse transform */
{
	const double *quantile = series_quantiles(table);
	double at = (1 - random_uniform(r)) * (double)(table->entries->count - 1), below = floor(at);
	uint64_t i = (uint64_t)below;
	if (i + 1 >= table->entries->count)
		return quantile[table->entries->count - 1];
	return quantile[i] + (at - below) * (quantile[i + 1] - quantile[i]);
}

/* Pareto with alpha 3 has the mean 3/2 and the deviation sqrt(3)/2. */
static double pareto(struct random *r)
{
	return (1 / cbrt(random_uniform(r)) - 1.5) * 2 / sqrt(3);
}

static double offset_us(const struct shape *s, const struct series *table, struct random *r)
{
	if (s->distribution == TABLE)
		return table ? of_table(table, r) : 0;
	if (!s->jitter_us)
		return 0;
	double unit = s->distribution == UNIFORM ? 2 * random_uniform(r) - 1
		    : s->distribution == PARETO ? pareto(r) : random_normal(r);
	return unit * (double)s->jitter_us;
}

uint64_t chance_delay_ns(const struct shape *s, const struct series *table, const struct step *step, struct random *r)
{
	uint64_t delay_us = step && step->delay_us >= 0 ? (uint64_t)step->delay_us : s->delay_us;
	double ns = (double)delay_us * 1000 + offset_us(s, table, r) * 1000;
	return ns > 0 ? (uint64_t)ns : 0;
}
