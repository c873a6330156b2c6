/* A probe's frame: who sent it and its number, so that neither a flipped bit nor another order hides them.
 *
 * An Ethernet header with the type for local experiments (IEEE Std 802, 88B6), then three equal copies of stream
 * and number, then filling.  A single flipped bit is out-voted by the other two copies, and seen by comparing the
 * whole frame with what was sent.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { ETHERTYPE = 0x88B6, HEADER_BYTES = 14, COPIES = 3, LEAST_FRAME = 60, MOST_FRAME = 1514, FILLING = 0x56 };

struct label {
	uint32_t stream, number;
};

static inline void frame_write(uint8_t *frame, const uint8_t to[6], const uint8_t from[6], uint32_t bytes)
{
	memset(frame, FILLING, bytes);
	memcpy(frame, to, 6);
	memcpy(frame + 6, from, 6);
	frame[12] = ETHERTYPE >> 8;
	frame[13] = ETHERTYPE & 0xff;
}

static inline void frame_label(uint8_t *frame, struct label label)
{
	for (int i = 0; i < COPIES; i++)
		memcpy(frame + HEADER_BYTES + i * sizeof label, &label, sizeof label);
}

/* Bit by bit what two of the three copies say. */
static inline struct label frame_read(const uint8_t *frame)
{
	struct label c[COPIES];
	memcpy(c, frame + HEADER_BYTES, sizeof c);
#define MAJORITY(field) ((c[0].field & c[1].field) | (c[1].field & c[2].field) | (c[0].field & c[2].field))
	return (struct label){MAJORITY(stream), MAJORITY(number)};
#undef MAJORITY
}

/* Whether a frame that was received is, bit for bit, the one that was sent: `like` is any other of its stream. */
static inline bool frame_is_intact(const uint8_t *frame, uint32_t bytes, const uint8_t *like, uint32_t like_bytes)
{
	struct label label = frame_read(frame), copies[COPIES] = {label, label, label};
	uint32_t rest = HEADER_BYTES + sizeof copies;
	return bytes == like_bytes && !memcmp(frame, like, HEADER_BYTES) &&
		   !memcmp(frame + HEADER_BYTES, copies, sizeof copies) && !memcmp(frame + rest, like + rest, bytes - rest);
}
