/* What the element does look into a frame for: how it will be split, a bit to flip, a mark to set.
 *
 * A packet begins with struct virtio_net_hdr, then comes Ethernet.
 */
#ifndef FRAME_H
#define FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "random.h"

enum { VNET_HEADER = 10, ETHERNET_HEADER = 14 }; /* bytes */

struct frames {
	uint32_t count;  /* how many frames a packet is once it is split */
	uint32_t bytes;  /* of all of them, without preamble and FCS */
};

/* `start` is the packet's first cell, `length` the whole packet's. */
struct frames frame_count(const uint8_t *start, uint32_t length);

/* Flip one random bit behind the Ethernet header, so that the receiver's checksum fails.  False for a large segment:
 * the kernel would make new checksums when it splits it. */
bool frame_corrupt(uint32_t packet, struct random *r);

/* Set CE, where the packet says that it may be set (RFC 3168). */
bool frame_mark(uint32_t packet);

#endif
