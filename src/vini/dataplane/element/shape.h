/* The settings of one port, by name and number, as docs/explanation/links.md has them. */
#ifndef SHAPE_H
#define SHAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum distribution { NORMAL, UNIFORM, PARETO, TABLE, DISTRIBUTIONS };
enum aqm { DROP_TAIL, CODEL, AQMS };

struct shape {
	uint64_t netns, ifindex; /* inode of the namespace, index of the vif: tell a new one of the same name */
	uint64_t cookie;         /* of the packet socket, by which the filters know what was delayed (SO_COOKIE) */
	uint64_t delay_us, jitter_us, distribution, keeps_order;
	uint64_t loss_ppm, enter_ppm, leave_ppm, bad_ppm, good_ppm;
	uint64_t duplicate_ppm, corrupt_ppm, reorder_ppm;
	uint64_t rate_kbit, queue_packets, queue_bytes, queue_us, aqm;
};

struct field {
	const char *name;
	size_t at;
	uint64_t most;
};
extern const struct field shape_fields[]; /* ends with a name of NULL */

void shape_default(struct shape *s);
uint64_t shape_get(const struct shape *s, const struct field *f);

/* Obey "name=value".  False, and nothing changed, where that isn't a setting's name with a value that it may have. */
bool shape_set(struct shape *s, const char *word);

#endif
