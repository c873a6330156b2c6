#include "pace.h"

#include "clock.h"

enum { MANY = 5 };
#define FIRST_PAUSE_NS 20000000u
#define LONGEST_PAUSE_NS 2000000000u

uint64_t pace_pause_ns(struct pace *p, uint64_t now)
{
	p->deaths[p->next] = now;
	p->next = (p->next + 1) % MANY;
	uint64_t oldest = p->deaths[p->next];
	if (!oldest || now - oldest > BILLION + MANY * p->pause_ns)
		p->pause_ns = 0;
	else
		p->pause_ns = !p->pause_ns ? FIRST_PAUSE_NS : 2 * p->pause_ns < LONGEST_PAUSE_NS ? 2 * p->pause_ns : LONGEST_PAUSE_NS;
	return p->pause_ns;
}
