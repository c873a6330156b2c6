/* Randomness of one port: xorshift128+ (Vigna 2014). */
#ifndef RANDOM_H
#define RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct random {
	uint64_t state[2]; /* not both 0 */
};

uint64_t random64(struct random *r);
double random_uniform(struct random *r);                 /* (0, 1] */
double random_normal(struct random *r);                  /* mean 0, deviation 1 */
bool random_hits(struct random *r, uint64_t ppm);        /* with that probability; draws nothing for 0 */

#endif
