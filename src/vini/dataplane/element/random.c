#include "random.h"

#include <math.h>

uint64_t random64(struct random *r)
{
	uint64_t a = r->state[0], b = r->state[1];
	r->state[0] = b;
	a ^= a << 23;
	r->state[1] = a ^ b ^ (a >> 17) ^ (b >> 26);
	return r->state[1] + b;
}

double random_uniform(struct random *r)
{
	return ((double)(random64(r) >> 11) + 1) / 9007199254740992.0;
}

double random_normal(struct random *r) /* Box and Muller */
{
	double radius = sqrt(-2 * log(random_uniform(r)));
	return radius * cos(2 * M_PI * random_uniform(r));
}

bool random_hits(struct random *r, uint64_t ppm)
{
	return ppm && random_uniform(r) * 1e6 <= (double)ppm;
}
