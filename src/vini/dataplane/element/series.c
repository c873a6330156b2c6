#include "series.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"

const char *const series_names[ROLES] = {"table", "lose", "trace"};

enum { MOST = 64 << 20 };        /* bytes of a file */

static struct series *all;
static uint64_t last_id;

/* ---- reading ------------------------------------------------------------------------------------------- */

struct reading {
	FILE *file;
	const char *path;
	char *line;
	size_t room;
	uint64_t number;         /* of the line */
	char *entries;
	size_t size, capacity;   /* bytes */
	struct entries head;
	char *why;
	size_t why_size;
};

__attribute__((format(printf, 2, 3))) static bool wrong(struct reading *r, const char *format, ...)
{
	va_list arguments;
	int n = snprintf(r->why, r->why_size, "%s, line %" PRIu64 ": ", r->path, r->number);
	va_start(arguments, format);
	if (n > 0 && (size_t)n < r->why_size)
		vsnprintf(r->why + n, r->why_size - (size_t)n, format, arguments);
	va_end(arguments);
	return false;
}

static bool next_line(struct reading *r)
{
	ssize_t n = getline(&r->line, &r->room, r->file);
	if (n < 0)
		return false;
	r->number++;
	while (n && strchr("\r\n", r->line[n - 1]))
		r->line[--n] = 0;
	return true;
}

static bool add(struct reading *r, const void *entry, size_t size)
{
	if (r->size + size > r->capacity) {
		size_t capacity = r->capacity ? 2 * r->capacity : 4096;
		char *entries = realloc(r->entries, capacity);
		if (!entries)
			return wrong(r, "out of memory");
		r->entries = entries;
		r->capacity = capacity;
	}
	memcpy(r->entries + r->size, entry, size);
	r->size += size;
	r->head.count++;
	return true;
}

/* One whole number, and where it ends; LONG_MAX and LONG_MIN are what no file may hold. */
static const char *whole(const char *at, int64_t *value)
{
	char *end;
	errno = 0;
	*value = strtoll(at, &end, 10);
	return errno || end == at || *value > INT64_MAX / MILLION || *value < -1 ? NULL : end;
}

static bool read_table(struct reading *r)
{
	double before = -INFINITY, value;
	while (next_line(r)) {
		char *end;
		value = strtod(r->line, &end);
		if (end == r->line || *end || !(fabs(value) <= 1e12))
			return wrong(r, "'%.40s' is not a number of microseconds", r->line);
		if (value < before)
			return wrong(r, "%g is less than the line before, and quantiles ascend", value);
		before = value;
		if (!add(r, &value, sizeof value))
			return false;
	}
	return true;
}

static bool read_lose(struct reading *r)
{
	int64_t before = 0, first, last;
	while (next_line(r)) {
		const char *end = whole(r->line, &first);
		last = first;
		if (end && *end == '-')
			end = whole(end + 1, &last);
		if (!end || *end || first < 1 || last < first)
			return wrong(r, "'%.40s' is neither a packet's number nor a range as 3-7; they count from 1", r->line);
		if (first <= before)
			return wrong(r, "%" PRId64 " comes after %" PRId64 ", and packet numbers ascend", first, before);
		before = last;
		if (!add(r, &(struct range){(uint64_t)first, (uint64_t)last}, sizeof(struct range)))
			return false;
	}
	return true;
}

static bool read_opportunities(struct reading *r)
{
	int64_t before = 0, ms;
	while (next_line(r)) {
		const char *end = whole(r->line, &ms);
		if (!end || *end || ms < 0)
			return wrong(r, "'%.40s' is not a whole number of milliseconds", r->line);
		if (ms < before)
			return wrong(r, "%" PRId64 " ms comes after %" PRId64 " ms, and times ascend", ms, before);
		before = ms;
		if (!add(r, &(uint64_t){(uint64_t)ms * MILLION}, sizeof(uint64_t)))
			return false;
	}
	r->head.opportunities = true;
	r->head.period_ns = (uint64_t)before * MILLION;
	return before || wrong(r, "the last opportunity must come later than at 0 ms");
}

static bool add_step(struct reading *r, struct step s)
{
	if (r->head.count) {
		const struct step *before = (const struct step *)(const void *)r->entries + r->head.count - 1;
		uint64_t lasted = s.at_ns - before->at_ns;
		s.own_ns = before->own_ns + (before->rate_kbit < 0 ? lasted : 0);
		s.gives = before->gives + (before->rate_kbit < 0 ? 0 : (amount)before->rate_kbit * lasted);
	}
	return add(r, &s, sizeof s);
}

/* One more, that doesn't count, at the end of the period or of what is known. */
static bool end_steps(struct reading *r, uint64_t period_ns)
{
	if (!r->head.count)
		return true; /* who called us tells */
	const struct step *last = (const struct step *)(const void *)r->entries + r->head.count - 1;
	if (!add_step(r, (struct step){.at_ns = period_ns ? period_ns : last->at_ns}))
		return false;
	r->head.count--;
	r->head.period_ns = period_ns;
	return true;
}

static bool read_steps(struct reading *r, uint64_t period_us)
{
	int64_t before = -1, value[4];
	while (next_line(r)) {
		const char *at = r->line;
		for (int i = 0; at && i < 4; i++)
			at = whole(at, &value[i]);
		if (!at || *at || value[0] < 0 || value[3] > (int64_t)MILLION)
			return wrong(r, "'%.80s' is not `time_us rate_kbit delay_us loss_ppm`", r->line);
		if (value[0] <= before)
			return wrong(r, "%" PRId64 " us does not come after %" PRId64 " us", value[0], before);
		if (period_us && (uint64_t)value[0] >= period_us)
			return wrong(r, "%" PRId64 " us is not within the period of %" PRIu64 " us", value[0], period_us);
		before = value[0];
		if (!r->head.count && value[0] && !add_step(r, (struct step){0, -1, -1, -1, 0, 0}))
			return false;
		if (!add_step(r, (struct step){(uint64_t)value[0] * 1000, value[1], value[2], value[3], 0, 0}))
			return false;
	}
	return end_steps(r, period_us * 1000);
}

static bool read_trace(struct reading *r)
{
	int64_t period_us;
	bool found = next_line(r);
	if (found && !strcmp(r->line, "opportunities"))
		return read_opportunities(r);
	if (found && !strncmp(r->line, "steps ", 6)) {
		const char *end = whole(r->line + 6, &period_us);
		if (end && !*end && period_us >= 0)
			return read_steps(r, (uint64_t)period_us);
	}
	return wrong(r, "a trace begins with `opportunities` or with `steps PERIOD_US`");
}

/* ---- sealed memory ------------------------------------------------------------------------------------- */

static bool map(struct series *s)
{
	struct stat there;
	if (fstat(s->fd, &there))
		return false;
	s->mapped = (size_t)there.st_size;
	void *p = mmap(NULL, s->mapped, PROT_READ, MAP_SHARED, s->fd, 0);
	if (p == MAP_FAILED)
		return false;
	s->entries = p;
	return true;
}

static bool write_all(int fd, const void *bytes, size_t size)
{
	for (size_t done = 0; done < size; ) {
		ssize_t n = write(fd, (const char *)bytes + done, size - done);
		if (n < 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

static bool seal(struct series *s, const struct reading *r)
{
	s->fd = memfd_create("element", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (s->fd < 0)
		return false;
	if (write_all(s->fd, &r->head, sizeof r->head) && write_all(s->fd, r->entries, r->size) &&
	    !fcntl(s->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) && map(s))
		return true;
	close(s->fd);
	return false;
}

static bool read_file(struct series *s, FILE *file, char *why, size_t size)
{
	static bool (*const read_as[ROLES])(struct reading *) = {read_table, read_lose, read_trace};
	struct reading r = {.file = file, .path = s->path, .why = why, .why_size = size};
	bool good = read_as[s->role](&r);
	if (good && !r.head.count)
		good = wrong(&r, "it holds no entries");
	if (good && ferror(file))
		good = wrong(&r, "%s", strerror(errno));
	if (good && !seal(s, &r))
		good = wrong(&r, "%s", strerror(errno));
	free(r.line);
	free(r.entries);
	return good;
}

/* ---- all of them --------------------------------------------------------------------------------------- */

struct series *series_find(uint64_t id)
{
	struct series *s = all;
	while (s && s->id != id)
		s = s->next;
	return s;
}

static struct series *same(const struct series *as)
{
	for (struct series *s = all; s; s = s->next)
		if (s->role == as->role && !strcmp(s->path, as->path) && s->device == as->device && s->inode == as->inode &&
		    s->size == as->size && !memcmp(&s->changed, &as->changed, sizeof s->changed))
			return s;
	return NULL;
}

static struct series *keep(const struct series *s)
{
	struct series *kept = malloc(sizeof *kept);
	if (!kept)
		return NULL;
	*kept = *s;
	kept->next = all;
	all = kept;
	if (kept->id > last_id)
		last_id = kept->id;
	return kept;
}

/* Open a file that may be read in a moment, and note which it is.  NULL: `why` says why not. */
static FILE *open_for(struct series *s, char *why, size_t size)
{
	struct stat there;
	int fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not hold us up */
	const char *reason = NULL;
	if (fd < 0 || fstat(fd, &there))
		reason = strerror(errno);
	else if (!S_ISREG(there.st_mode))
		reason = "it is not a file";
	else if (there.st_size > MOST)
		reason = "it has more than 64 MiB";
	FILE *file = reason ? NULL : fdopen(fd, "r");
	if (!file) {
		snprintf(why, size, "%s can't be read: %s", s->path, reason ? reason : strerror(errno));
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	s->device = there.st_dev;
	s->inode = there.st_ino;
	s->changed = there.st_mtim;
	s->size = there.st_size;
	return file;
}

struct series *series_load(const char *path, enum series_role role, char *why, size_t size)
{
	struct series new = {.role = role, .users = 1, .fd = -1};
	if (*path != '/' || strlen(path) >= sizeof new.path) {
		snprintf(why, size, "%s=%.200s is not an absolute path of fewer than %d bytes", series_names[role], path,
			 SERIES_PATH);
		return NULL;
	}
	strcpy(new.path, path);
	FILE *file = open_for(&new, why, size);
	if (!file)
		return NULL;
	struct series *s = same(&new);
	if (s) {
		series_use(s);
	} else if (read_file(&new, file, why, size)) {
		new.id = last_id + 1;
		s = keep(&new);
		if (!s)
			snprintf(why, size, "out of memory");
	}
	fclose(file);
	return s;
}

struct series *series_adopt(const struct series *from, int fd)
{
	struct series new = *from;
	new.fd = fd;
	new.users = 0;
	return map(&new) ? keep(&new) : NULL;
}

void series_use(struct series *s)
{
	if (s)
		s->users++;
}

void series_release(struct series *s)
{
	if (!s || --s->users)
		return;
	struct series **at = &all;
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	munmap((void *)(uintptr_t)s->entries, s->mapped);
	close(s->fd);
	free(s);
}
