/* The worker's packets: in from the TAPs, out by the packet sockets, through the lines between. */
#ifndef TRAFFIC_H
#define TRAFFIC_H

#include <stdbool.h>
#include <stdint.h>

#include "port.h"

/* What the worker's loop knows of the present round, for the packets read in it. */
struct round {
	bool is_stalled;         /* we were away for more than LATE_NS */
	uint64_t looked;         /* what can be read now was empty then, or was not read to its end */
	uint64_t slept;          /* all was empty then, too */
};
extern struct round round_now;

extern void (*traffic_gone)(struct port *p); /* called for a port whose vif or TAP went away; it closes the port */

void traffic_open(void);
void traffic_start(struct port *p);  /* packets of a port that is in the list move from now on */
void traffic_stop(struct port *p);   /* what it holds is lost */
void traffic_change(struct port *p, const struct shape *shape, struct series *const files[ROLES], uint64_t trace_begin);
void traffic_depart(void);           /* whatever is due, or a good part of it */
void traffic_recheck(void);          /* ports whose vif may be gone */

#endif
