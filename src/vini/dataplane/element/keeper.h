/* The keeper's side of the two processes: it holds every port's settings, and sees that a worker carries them out. */
#ifndef KEEPER_H
#define KEEPER_H

#include <stdbool.h>

#include "port.h"

struct wish {                            /* for one port */
	struct shape shape;
	struct series *files[ROLES];     /* each used once for it */
};

/* Carry a wish out, whose files are the port's then; `p` NULL: a new port of that name with those descriptors, which
 * become -1 as it takes them.  False where that can't be: no memory, or the vif went away. */
bool keeper_set(struct port *p, const char *netns, const char *dev, const struct wish *wish, int descriptors[2]);

void keeper_remove(struct port *p);
void keeper_refresh(void);               /* the counters of all ports are up to now */
void keeper_client(int change);          /* one client more or less */

#endif
