#include "budget.h"

#include <sched.h>

#include "clock.h"
#include "shared.h"

enum { PRIORITY = 10 };
#define PERIOD_NS 100000000u
#define AWAKE_NS 92000000u
#define SPIN_NS 30000000u
#define EVEN_PERCENT 60
#define BURST_NS 2000000u /* ahead of that, in the beginning */
#define SPARE_NS 5000000u

static struct {
	uint64_t ends, now, awake, spun;
	uint64_t spin; /* what it may spin */
	bool is_realtime;
} period;

static bool ask(int policy)
{
	struct sched_param priority = {.sched_priority = policy == SCHED_FIFO ? PRIORITY : 0};
	return !sched_setscheduler(0, policy | SCHED_RESET_ON_FORK, &priority);
}

void budget_open(void)
{
	shared->realtime = period.is_realtime = ask(SCHED_FIFO);
	period.ends = 0;
}

/* What is left for spinning beside as much work as there was in the period that ends. */
static uint64_t spin_beside_work(void)
{
	uint64_t taken = period.awake - period.spun + SPARE_NS;
	uint64_t left = taken < AWAKE_NS ? AWAKE_NS - taken : 0;
	return left < SPIN_NS ? left : SPIN_NS;
}

void budget_spend(uint64_t now, uint64_t awake_ns, uint64_t spun_ns)
{
	period.now = now;
	period.awake += awake_ns;
	period.spun += spun_ns;
	if (now >= period.ends) {
		period.ends = now + PERIOD_NS;
		period.spin = spin_beside_work();
		period.awake = period.spun = 0;
		if (shared->realtime && !period.is_realtime)
			period.is_realtime = ask(SCHED_FIFO);
	} else if (period.is_realtime && period.awake > AWAKE_NS) {
		period.is_realtime = !ask(SCHED_OTHER);
		shared->throttled++;
	}
}

bool budget_may_spin(void)
{
	return period.spun < period.spin && budget_is_even();
}

bool budget_is_even(void)
{
	uint64_t elapsed = PERIOD_NS - (period.ends - period.now);
	return period.awake < elapsed / 100 * EVEN_PERCENT + BURST_NS;
}
