#include "frame.h"

#include <linux/virtio_net.h>
#include <stddef.h>
#include <string.h>

#include "pool.h"

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5 /* Linux 6.2 */
#endif

static struct virtio_net_hdr vnet(const uint8_t *start)
{
	struct virtio_net_hdr h;
	memcpy(&h, start, VNET_HEADER);
	return h;
}

static bool is_large(const struct virtio_net_hdr *h)
{
	return h->gso_type != VIRTIO_NET_HDR_GSO_NONE && h->gso_size;
}

struct frames frame_count(const uint8_t *start, uint32_t length)
{
	struct virtio_net_hdr h = vnet(start);
	uint32_t frame = length - VNET_HEADER;
	if (!is_large(&h))
		return (struct frames){1, frame};
	uint32_t transport = 8; /* UDP; the header's hdr_len may be more than the headers */
	if (h.gso_type != VIRTIO_NET_HDR_GSO_UDP_L4 && VNET_HEADER + h.csum_start + 12u < CELL)
		transport = (uint32_t)(start[VNET_HEADER + h.csum_start + 12] >> 4) * 4;
	uint32_t headers = h.csum_start + transport;
	if (frame <= headers)
		return (struct frames){1, frame};
	uint32_t count = (frame - headers + h.gso_size - 1) / h.gso_size;
	return (struct frames){count, frame + (count - 1) * headers};
}

static uint16_t folded(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static uint16_t sum_of(uint32_t packet, uint32_t from, uint32_t end) /* RFC 1071 */
{
	uint64_t sum = 0;
	for (uint32_t i = from; i < end; i++) {
		uint64_t byte = *packet_byte(packet, i);
		sum += (i - from) & 1 ? byte : byte << 8;
	}
	return folded(sum);
}

/* Where the sender left the checksum to its network card, it holds the pseudo header's sum only. */
static void complete_checksum(uint32_t packet)
{
	uint8_t *start = packet_byte(packet, 0);
	struct virtio_net_hdr h = vnet(start);
	uint32_t length = pool.packets[packet].length, from = VNET_HEADER + h.csum_start, at = from + h.csum_offset;
	if (h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM && at + 2 <= length) {
		uint16_t sum = (uint16_t)~sum_of(packet, from, length);
		if (!sum && h.csum_offset == 6)
			sum = 0xffff; /* UDP: 0 would say that there is none */
		*packet_byte(packet, at) = (uint8_t)(sum >> 8);
		*packet_byte(packet, at + 1) = (uint8_t)sum;
	}
	memset(start, 0, VNET_HEADER);
}

bool frame_corrupt(uint32_t packet, struct random *r)
{
	struct virtio_net_hdr h = vnet(packet_byte(packet, 0));
	uint32_t length = pool.packets[packet].length, from = VNET_HEADER + ETHERNET_HEADER;
	if (is_large(&h))
		return false;
	complete_checksum(packet);
	if (length > from) {
		uint64_t bit = random64(r) % ((length - from) * 8);
		*packet_byte(packet, from + (uint32_t)(bit / 8)) ^= (uint8_t)(1u << bit % 8);
	}
	return true;
}

static bool mark_ipv4(uint8_t *ip, uint32_t room)
{
	uint32_t header = (uint32_t)(ip[0] & 15) * 4;
	if (!(ip[1] & 3) || header < 20 || header > room)
		return false;
	ip[1] |= 3;
	ip[10] = ip[11] = 0;
	uint64_t sum = 0;
	for (uint32_t i = 0; i < header; i += 2)
		sum += (uint64_t)ip[i] << 8 | ip[i + 1];
	uint16_t checksum = (uint16_t)~folded(sum);
	ip[10] = (uint8_t)(checksum >> 8);
	ip[11] = (uint8_t)checksum;
	return true;
}

static bool mark_ipv6(uint8_t *ip)
{
	if (!(ip[1] & 0x30))
		return false;
	ip[1] |= 0x30;
	return true;
}

static bool is_tag(const uint8_t *type) /* IEEE 802.1Q */
{
	return (type[0] == 0x81 && !type[1]) || (type[0] == 0x88 && type[1] == 0xa8);
}

bool frame_mark(uint32_t packet)
{
	uint8_t *start = packet_byte(packet, 0);
	uint32_t length = pool.packets[packet].length, type = VNET_HEADER + 12;
	length = length < CELL ? length : CELL;
	while (type + 2 < length && is_tag(start + type))
		type += 4;
	if (type + 2 > length)
		return false;
	uint8_t *ip = start + type + 2;
	uint32_t room = length - type - 2;
	if (start[type] == 0x08 && !start[type + 1])
		return room >= 20 && mark_ipv4(ip, room);
	return start[type] == 0x86 && start[type + 1] == 0xdd && room >= 40 && mark_ipv6(ip);
}
