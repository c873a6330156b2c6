/* Time and the numbers that everything counts in. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>
#include <time.h>

#define NONE UINT32_MAX   /* no such packet or cell */
#define NEVER UINT64_MAX  /* no such time */
#define MILLION 1000000u
#define BILLION 1000000000u

static inline uint64_t clock_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * BILLION + (uint64_t)t.tv_nsec;
}

#endif
