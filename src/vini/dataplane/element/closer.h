/* Closes the descriptors of ports that are gone, in a thread of its own: the last close of a TAP or of a packet socket
 * makes the kernel wait for tens of milliseconds.  TAPs are persistent, so that a killed element's need not be made
 * anew; here that ends.  Those of a deleted namespace go with it, all at once. */
#ifndef CLOSER_H
#define CLOSER_H

#include <stdbool.h>

#include "port.h"

bool closer_start(void);
void closer_take(struct port *p);     /* it is out of the list; freed here */
bool closer_is_busy(void);

/* Around fork(2): the child must not keep what is being closed. */
void closer_lock(void);
void closer_unlock(void);             /* in the parent */
void closer_forget(void);             /* in the child */

#endif
