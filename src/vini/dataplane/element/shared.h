/* Memory that all processes of the element share, and that outlives each of them. */
#ifndef SHARED_H
#define SHARED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "live.h"

enum { MAX_PORTS = 65536 };

struct shared {
	_Atomic uint64_t heartbeat;      /* the worker counts its rounds */
	_Atomic uint64_t worker;         /* process id; 0: between two */
	_Atomic uint64_t restarts;       /* of the worker */
	_Atomic uint64_t keeper_restarts;
	_Atomic uint64_t realtime;       /* the worker may have real-time priority */
	_Atomic uint64_t throttled;      /* rounds that it had to do without, having used up its budget */
	_Atomic uint64_t cells, free_cells;
	struct live live[MAX_PORTS];     /* touched only as used */
};
extern struct shared *shared;

bool shared_open(void);

#endif
