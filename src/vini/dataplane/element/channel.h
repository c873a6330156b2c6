/* What keeper and worker say to each other, one message at a time over a socket pair. */
#ifndef CHANNEL_H
#define CHANNEL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "series.h"
#include "shape.h"

enum verb {
	SET,      /* keeper: a port has these settings; a new one comes with its descriptors */
	REMOVE,   /* keeper: close that port */
	REFRESH,  /* keeper: bring the counters of all ports up to now */
	END,      /* keeper: go, it is over.  Worker: somebody wants us to end */
	DONE,     /* worker: the answer to SET, REMOVE and REFRESH */
	GONE,     /* worker: that port's vif or namespace went away, and it was closed */
};

struct message {
	enum verb verb;
	uint64_t number;                 /* DONE: of the message that it answers */
	bool good;                       /* DONE */
	uint64_t id;                     /* of the port */
	uint32_t slot;
	bool has_descriptors;            /* TAP and packet socket */
	char netns[256], dev[16];
	struct shape shape;
	struct series files[ROLES];      /* id 0: none; else its memory's descriptor comes along */
	uint64_t trace_begin;
};

/* What a message may carry: TAP and packet socket if it says so, and the memory of its files; else -1. */
enum { TAP, OUT, FILE_OF, DESCRIPTORS = FILE_OF + ROLES };

bool channel_send(int fd, const struct message *m, const int descriptors[DESCRIPTORS]); /* NULL: none */

/* Bytes read; 0: the other one is gone; -1 with errno. */
ssize_t channel_receive(int fd, struct message *m, int descriptors[DESCRIPTORS]);

#endif
