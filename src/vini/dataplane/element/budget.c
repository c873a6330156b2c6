#include "budget.h"

#include <sched.h>

#include "clock.h"
#include "shared.h"

enum { PRIORITY = 10 };
#define PERIOD_NS 100000000u
#define AWAKE_NS 80000000u
#define SPIN_NS 30000000u

static struct {
	uint64_t ends, awake, spun;
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

void budget_spend(uint64_t now, uint64_t awake_ns, uint64_t spun_ns)
{
	period.awake += awake_ns;
	period.spun += spun_ns;
	if (now >= period.ends) {
		period.ends = now + PERIOD_NS;
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
	return period.spun < SPIN_NS && period.awake < AWAKE_NS;
}
