/* How soon a process that died may be started again: at once, but not for ever. */
#ifndef PACE_H
#define PACE_H

#include <stdint.h>

struct pace {
	uint64_t deaths[5];      /* the latest ones, ns */
	unsigned next;
	uint64_t pause_ns;
};

/* Called at a death: how long to wait.  0, unless this was the fifth within a second: then from 20 ms on, twice as
 * long each time, up to 2 s. */
uint64_t pace_pause_ns(struct pace *p, uint64_t now);

#endif
