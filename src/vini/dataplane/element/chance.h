/* What is left to chance: which packets are lost, and how long one is on the wire. */
#ifndef CHANCE_H
#define CHANCE_H

#include <stdbool.h>
#include <stdint.h>

#include "live.h"
#include "series.h"
#include "shape.h"

/* Whether the packet that arrives now is lost: by the list, by the two states, or independent of all others. */
bool chance_loses(const struct shape *s, const struct series *lose, const struct step *step, struct live *live);

/* One way, ns: the delay with the asked distribution around it, cut at 0. */
uint64_t chance_delay_ns(const struct shape *s, const struct series *table, const struct step *step, struct random *r);

#endif
