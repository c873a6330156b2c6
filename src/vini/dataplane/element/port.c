#include "port.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct ports ports;
const char *netns_directory;

struct port *port_find(const char *netns, const char *dev)
{
	for (size_t i = 0; i < ports.count; i++)
		if (!strcmp(ports.of[i]->dev, dev) && !strcmp(ports.of[i]->netns, netns))
			return ports.of[i];
	return NULL;
}

struct port *port_of(uint64_t id)
{
	for (size_t i = 0; i < ports.count; i++)
		if (ports.of[i]->id == id)
			return ports.of[i];
	return NULL;
}

static bool make_room(void)
{
	if (ports.count < ports.room)
		return true;
	size_t room = ports.room ? 2 * ports.room : 64;
	struct port **of = realloc(ports.of, room * sizeof *of);
	if (!of)
		return false;
	ports.of = of;
	ports.room = room;
	return true;
}

struct port *port_add(uint64_t id, uint32_t slot, const char *netns, const char *dev, int tap, int out)
{
	struct port *p = make_room() ? calloc(1, sizeof *p) : NULL;
	if (!p)
		return NULL;
	p->id = id;
	p->slot = slot;
	snprintf(p->netns, sizeof p->netns, "%s", netns);
	snprintf(p->dev, sizeof p->dev, "%s", dev);
	shape_default(&p->shape);
	p->tap = tap;
	p->out = out;
	p->place = ports.count;
	ports.of[ports.count++] = p;
	return p;
}

void port_take_files(struct port *p, struct series *const files[ROLES])
{
	for (int role = 0; role < ROLES; role++) {
		series_release(p->files[role]);
		p->files[role] = files[role];
	}
}

void port_leave(struct port *p)
{
	port_take_files(p, (struct series *[ROLES]){0});
	ports.of[p->place] = ports.of[--ports.count];
	ports.of[p->place]->place = p->place;
}

bool port_is_gone(const struct port *p)
{
	char path[4096];
	struct stat s;
	snprintf(path, sizeof path, "%s/%s", netns_directory, p->netns);
	return stat(path, &s) || s.st_ino != p->shape.netns;
}
