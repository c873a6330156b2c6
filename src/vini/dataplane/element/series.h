/* A file of numbers that a port follows: a table of delays, a list of packets to lose, or a trace.
 *
 * Read and checked once, by the keeper, into sealed memory that keeper and worker share; ports with the same file
 * share it too.  The forms of the files: docs/explanation/links.md.
 */
#ifndef SERIES_H
#define SERIES_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

enum series_role { TABLE_FILE, LOSE_FILE, TRACE_FILE, ROLES };
extern const char *const series_names[ROLES]; /* of the settings: table, lose, trace */

enum { SERIES_PATH = 1024 };

__extension__ typedef unsigned __int128 amount; /* 10^-6 bits: as many as a kbit/s gives in a ns */

struct step {                    /* of a trace; -1: as the port's own setting.  The first is at 0, and behind the last is
                                    one more, at the period's end */
	uint64_t at_ns;
	int64_t rate_kbit, delay_us, loss_ppm;
	uint64_t own_ns;         /* before it, in its period: time at the port's own rate... */
	amount gives;            /* ...and what the other rows give */
};

struct range {                   /* packet numbers, both included */
	uint64_t first, last;
};

struct entries {                 /* the sealed memory's content */
	uint64_t count;
	uint64_t period_ns;      /* of a trace; 0: it doesn't repeat */
	bool opportunities;      /* a trace of that form */
	_Alignas(16) char of[];
};

struct series {
	uint64_t id;             /* never 0, never used twice */
	enum series_role role;
	char path[SERIES_PATH];
	dev_t device;            /* of the file it was read from: another one means that it changed */
	ino_t inode;
	struct timespec changed;
	off_t size;
	int fd;
	size_t mapped;
	const struct entries *entries;
	unsigned users;
	struct series *next;
};

static inline const double *series_quantiles(const struct series *s) { return (const double *)s->entries->of; }
static inline const struct range *series_ranges(const struct series *s) { return (const struct range *)s->entries->of; }
static inline const struct step *series_steps(const struct series *s) { return (const struct step *)s->entries->of; }
static inline const uint64_t *series_ns(const struct series *s) { return (const uint64_t *)s->entries->of; }

/* Those that are in use, or were a moment ago. */
struct series *series_find(uint64_t id);

/* One more user of what that file holds now; NULL with a sentence in `why` where it can't be used. */
struct series *series_load(const char *path, enum series_role role, char *why, size_t size);

/* Make known here what another process loaded; `fd` is its memory, and then ours.  NULL: no memory. */
struct series *series_adopt(const struct series *from, int fd);

void series_use(struct series *s);    /* NULL does nothing */
void series_release(struct series *s); /* one user less; the last one's frees it; NULL does nothing */

#endif
