/* Ports: one direction of one link each, with its two descriptors.  Keeper and worker have a list each. */
#ifndef PORT_H
#define PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arrivals.h"
#include "line.h"
#include "series.h"
#include "shape.h"
#include "watch.h"

struct port {
	uint64_t id;                     /* never used twice */
	uint32_t slot;                   /* in shared->live */
	char netns[256], dev[16];
	struct shape shape;
	struct series *files[ROLES];     /* or NULL; each counts us as a user */
	uint64_t trace_begin;
	int tap, out;
	size_t place;                    /* in the list */
	struct port *buried;
	/* the worker's alone */
	struct line line;
	struct arrivals arrivals;
	struct watch tap_watch, out_watch;
	uint64_t due;                    /* when something is to be done */
	size_t heap_at;                  /* 1-based; 0: not in the heap */
	bool is_down;                    /* its vif was, and nothing was sent since */
};

struct ports {
	struct port **of;
	size_t count, room;
};
extern struct ports ports;

struct port *port_find(const char *netns, const char *dev);
struct port *port_of(uint64_t id);

/* NULL: no memory.  The descriptors are its own from then on. */
struct port *port_add(uint64_t id, uint32_t slot, const char *netns, const char *dev, int tap, int out);

/* Give it other files, each already used once for it; those it had are used once less. */
void port_take_files(struct port *p, struct series *const files[ROLES]);

/* Out of the list, without its files; the descriptors and the memory are the caller's. */
void port_leave(struct port *p);

/* Whether its namespace was deleted, or the name belongs to a new one. */
bool port_is_gone(const struct port *p);
extern const char *netns_directory;

#endif
