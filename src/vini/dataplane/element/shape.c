#include "shape.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

#define FIELD(name, most) {#name, offsetof(struct shape, name), most}
#define ANY ((uint64_t)INT64_MAX / MILLION)

const struct field shape_fields[] = {
	FIELD(netns, ANY), FIELD(ifindex, INT32_MAX), FIELD(cookie, INT64_MAX),
	FIELD(delay_us, ANY / 1000), FIELD(jitter_us, ANY / 1000),
	FIELD(distribution, DISTRIBUTIONS - 1), FIELD(keeps_order, 1),
	FIELD(loss_ppm, MILLION), FIELD(enter_ppm, MILLION), FIELD(leave_ppm, MILLION),
	FIELD(bad_ppm, MILLION), FIELD(good_ppm, MILLION),
	FIELD(duplicate_ppm, MILLION), FIELD(corrupt_ppm, MILLION), FIELD(reorder_ppm, MILLION),
	FIELD(rate_kbit, ANY), FIELD(queue_packets, ANY), FIELD(queue_bytes, ANY), FIELD(queue_us, ANY / 1000),
	FIELD(aqm, AQMS - 1),
	{NULL, 0, 0},
};

void shape_default(struct shape *s)
{
	*s = (struct shape){.keeps_order = 1};
}

uint64_t shape_get(const struct shape *s, const struct field *f)
{
	return *(const uint64_t *)((const char *)s + f->at);
}

bool shape_set(struct shape *s, const char *word)
{
	const char *equals = strchr(word, '=');
	for (const struct field *f = shape_fields; equals && f->name; f++) {
		if (strncmp(word, f->name, (size_t)(equals - word)) || f->name[equals - word])
			continue;
		char *end;
		errno = 0;
		uint64_t value = strtoull(equals + 1, &end, 10);
		if (errno || *end || equals[1] < '0' || equals[1] > '9' || value > f->most)
			return false;
		*(uint64_t *)((char *)s + f->at) = value;
		return true;
	}
	return false;
}
