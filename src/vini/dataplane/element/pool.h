/* Memory for packets: one pool of cells; a packet is a chain of them. */
#ifndef POOL_H
#define POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum {
	CELL = 2048,       /* bytes; one holds a 1500-byte frame */
	SPAN = 33,         /* cells of the largest packet: 64 KiB, Ethernet and vnet header */
};

struct packet {            /* of the packet that starts in the cell of the same number */
	uint64_t arrival;  /* ns */
	uint64_t departure;
	uint32_t next;     /* of the same queue; in a heap: the next child of the same parent */
	uint32_t child;    /* in a heap: the first of those that depart later */
	uint32_t length;   /* bytes, vnet header included */
	uint32_t wire;     /* bytes it takes on the wire: each frame of a large segment has its own headers */
	uint32_t frames;   /* 1, or of how many a large segment consists */
};

struct pool {
	uint8_t *bytes;
	uint32_t *link;    /* next cell of the same packet, or of the free list */
	struct packet *packets;
	uint32_t free, free_count, size;
	uint32_t touched;  /* cells from this one on were never used */
};
extern struct pool pool;

/* The cells that the next packet is read into, whatever its size. */
struct window {
	uint32_t cell[SPAN];
	struct iovec parts[SPAN];
};
extern struct window window;

/* Map the pool and fill the window; a forked child has neither.  False where there is no memory. */
bool pool_open(size_t megabytes);

uint32_t cells_of(uint32_t length);
uint8_t *packet_byte(uint32_t packet, uint32_t at);  /* `at` bytes behind its vnet header's first */
uint32_t packet_parts(uint32_t packet, struct iovec *parts); /* how many */
void packet_free(uint32_t packet);

/* What was read into the window becomes a packet; the caller has looked at free_count. */
uint32_t window_claim(uint32_t length);

/* The same bytes once more; the caller has looked at free_count. */
uint32_t packet_copy(uint32_t packet);

#endif
