/* One line of the link element with a clock that the caller moves: compiled with the model's files into a library.
 *
 * Frame number i has 14 bytes of Ethernet, then i as a 32-bit number, then zeros.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "frame.h"
#include "line.h"
#include "pool.h"
#include "series.h"

struct simulation {
	struct shape shape;
	struct series *files[ROLES];
	struct live live;
	struct line line;
	char why[512];
};

struct simulation *simulation_new(uint64_t seed)
{
	struct simulation *s = calloc(1, sizeof *s);
	if (!pool.bytes && !pool_open(256))
		return NULL;
	shape_default(&s->shape);
	s->live.random = (struct random){{seed, ~seed}};
	for (int i = 0; i < 20; i++)
		random64(&s->live.random);
	line_open(&s->line, &s->shape, &s->live);
	return s;
}

void simulation_end(struct simulation *s)
{
	line_close(&s->line);
	for (int role = 0; role < ROLES; role++)
		series_release(s->files[role]);
	free(s);
}

/* "name=value", or for a file "trace=/path"; "" or why not. */
const char *simulation_set(struct simulation *s, const char *word, uint64_t now)
{
	line_advance(&s->line, now);
	strcpy(s->why, "");
	uint64_t begin = s->line.rate.begin;
	struct series *old = NULL;
	bool is_file = false;
	for (int role = 0; role < ROLES; role++) {
		size_t n = strlen(series_names[role]);
		if (strncmp(word, series_names[role], n) || word[n] != '=')
			continue;
		struct series *new = strcmp(word + n + 1, "-") ? series_load(word + n + 1, role, s->why, sizeof s->why) : NULL;
		if (*s->why)
			return s->why;
		old = s->files[role];
		s->files[role] = new;
		begin = role == TRACE_FILE ? now : begin;
		is_file = true;
	}
	if (!is_file && !shape_set(&s->shape, word))
		return "not understood";
	line_change(&s->line, (const struct series *const *)s->files, begin, now);
	series_release(old);
	return s->why;
}

/* What departed by `now`: numbers and times.  How many. */
uint32_t simulation_depart(struct simulation *s, uint64_t now, uint32_t room, uint32_t *number, uint64_t *departure)
{
	uint32_t count = 0;
	for (uint64_t at; count < room && (at = line_next(&s->line)) <= now && at != NEVER; ) {
		uint32_t k = line_depart(&s->line, at);
		if (k == NONE)
			continue;
		memcpy(&number[count], packet_byte(k, VNET_HEADER + ETHERNET_HEADER), sizeof *number);
		departure[count++] = pool.packets[k].departure;
		packet_free(k);
	}
	return count;
}

/* Ethernet type 0x0800 and TOS byte `tos` where that isn't 0. */
static void make_frame(uint32_t number, uint32_t length, uint8_t tos)
{
	uint8_t *start = window.parts[0].iov_base;
	for (uint32_t i = 0; i * CELL < length; i++)
		memset(window.parts[i].iov_base, 0, CELL);
	if (tos) {
		start[VNET_HEADER + 12] = 0x08;
		start[VNET_HEADER + 14] = 0x45;
		start[VNET_HEADER + 15] = tos;
		return;
	}
	memcpy(start + VNET_HEADER + ETHERNET_HEADER, &number, sizeof number);
}

void simulation_arrive(struct simulation *s, uint64_t now, uint32_t number, uint32_t frame_bytes, uint8_t tos)
{
	make_frame(number, frame_bytes + VNET_HEADER, tos);
	line_arrive(&s->line, frame_bytes + VNET_HEADER, now);
}

/* Frames `first`, `first` + 1, ... arrive at those times; meanwhile others depart.  How many did. */
uint32_t simulation_run(struct simulation *s, uint32_t first, uint32_t count, const uint64_t *arrival,
			uint32_t frame_bytes, uint32_t room, uint32_t *number, uint64_t *departure)
{
	uint32_t out = 0;
	for (uint32_t i = 0; i < count; i++) {
		out += simulation_depart(s, arrival[i], room - out, number + out, departure + out);
		simulation_arrive(s, arrival[i], first + i, frame_bytes, 0);
	}
	return out;
}

uint64_t simulation_count(const struct simulation *s, const char *name)
{
	const struct live *n = &s->live;
	const struct { const char *name; uint64_t value; } all[] = {
		{"received", n->received}, {"lost", n->lost}, {"dropped", n->dropped}, {"waiting", n->waiting},
		{"duplicated", n->duplicated}, {"corrupted", n->corrupted}, {"reordered", n->reordered},
		{"managed", n->managed}, {"marked", n->marked}, {"free_cells", pool.free_count}, {"cells", pool.size},
	};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (!strcmp(all[i].name, name))
			return all[i].value;
	return NEVER;
}
