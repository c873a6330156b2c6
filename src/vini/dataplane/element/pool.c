#include "pool.h"

#include <string.h>
#include <sys/mman.h>

#include "clock.h"

struct pool pool;
struct window window;

static void *map(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	madvise(p, size, MADV_DONTFORK); /* a new keeper must neither copy it nor make our writes fault */
	return p;
}

static uint32_t cell_take(void)
{
	uint32_t c = pool.free;
	pool.free_count--;
	if (c == NONE)
		return pool.touched++;
	pool.free = pool.link[c];
	return c;
}

static void cell_give(uint32_t c)
{
	pool.link[c] = pool.free;
	pool.free = c;
	pool.free_count++;
}

static void window_fill(uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		window.cell[i] = cell_take();
		window.parts[i] = (struct iovec){pool.bytes + (size_t)window.cell[i] * CELL, CELL};
	}
}

bool pool_open(size_t megabytes)
{
	pool = (struct pool){.free = NONE};
	pool.size = pool.free_count = (uint32_t)(megabytes * 1024 * 1024 / CELL);
	pool.bytes = map((size_t)pool.size * CELL);
	pool.link = map((size_t)pool.size * sizeof *pool.link);
	pool.packets = map((size_t)pool.size * sizeof *pool.packets);
	if (!pool.bytes || !pool.link || !pool.packets)
		return false;
	window_fill(SPAN);
	return true;
}

uint32_t cells_of(uint32_t length)
{
	return (length + CELL - 1) / CELL;
}

uint8_t *packet_byte(uint32_t packet, uint32_t at)
{
	for (; at >= CELL; at -= CELL)
		packet = pool.link[packet];
	return pool.bytes + (size_t)packet * CELL + at;
}

uint32_t packet_parts(uint32_t packet, struct iovec *parts)
{
	uint32_t count = 0, left = pool.packets[packet].length;
	for (uint32_t c = packet; left; c = pool.link[c]) {
		uint32_t size = left < CELL ? left : CELL;
		parts[count++] = (struct iovec){pool.bytes + (size_t)c * CELL, size};
		left -= size;
	}
	return count;
}

void packet_free(uint32_t p)
{
	uint32_t n = cells_of(pool.packets[p].length);
	while (n--) {
		uint32_t next = pool.link[p];
		cell_give(p);
		p = next;
	}
}

uint32_t window_claim(uint32_t length)
{
	uint32_t n = cells_of(length), first = window.cell[0];
	for (uint32_t i = 0; i + 1 < n; i++)
		pool.link[window.cell[i]] = window.cell[i + 1];
	pool.packets[first] = (struct packet){.next = NONE, .child = NONE, .length = length};
	window_fill(n);
	return first;
}

uint32_t packet_copy(uint32_t packet)
{
	struct iovec parts[SPAN];
	uint32_t n = packet_parts(packet, parts), before = NONE, first = NONE;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t c = cell_take();
		memcpy(pool.bytes + (size_t)c * CELL, parts[i].iov_base, parts[i].iov_len);
		if (before == NONE)
			first = c;
		else
			pool.link[before] = c;
		before = c;
	}
	pool.packets[first] = pool.packets[packet];
	pool.packets[first].next = pool.packets[first].child = NONE;
	return first;
}
