/* Ports by when something is to be done for them: a binary heap. */
#ifndef AGENDA_H
#define AGENDA_H

#include <stdbool.h>
#include <stdint.h>

#include "port.h"

void agenda_clear(void);
bool agenda_has_room(void); /* for one more port than there are; false: no memory */
void agenda_set(struct port *p, uint64_t due); /* NEVER: nothing */
struct port *agenda_first(void); /* NULL: nothing is to be done */

#endif
