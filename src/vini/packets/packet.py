"""One packet: its bytes, what the kernel has left to do to it, and the few header fields that forwarding needs."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

# struct virtio_net_hdr (linux/virtio_net.h) goes before every packet, from the kernel and to it: flags, kind of large
# segment, length of its headers, bytes of payload of each frame to cut from it, where to begin a checksum that is left
# to the network card, and where to put it.
OFFLOAD = struct.Struct("=BBHHHH")
OFFLOAD_BYTES = OFFLOAD.size
_NEEDS_CHECKSUM = 1
IPV4, IPV6 = 0x0800, 0x86DD  # EtherTypes
_DESTINATION = {IPV4: (30, 34), IPV6: (38, 54)}  # the destination address in a frame without VLAN tags


class Packet:
    """An Ethernet frame that came in by `vif`, to be read, changed and sent on.

    It may be a *large segment* (up to 64 KiB of TCP, which the kernel or the card cuts into frames where it must), and
    its TCP or UDP checksum may be unfinished.  Both survive as long as the packet itself is sent.  What is sent is the
    packet as it is when `Router.packets` ends; then its memory is used again.  To keep it longer, or to send it in
    several versions, `copy` it.
    """

    __slots__ = ("_base", "_memory", "address", "size", "vif")

    def __init__(self, memory: memoryview, base: int, vif: str):
        """`base` is the address of `memory`; `address` and `size` say where packet and offload header are in it."""
        self._memory, self._base = memory, base
        self.vif = vif
        self.address = base
        self.size = len(memory)

    @classmethod
    def of(cls, frame: bytes | bytearray | memoryview, vif: str = "", offload: bytes = bytes(OFFLOAD_BYTES)) -> Packet:
        """A new packet in memory of its own; `frame` is whole, from the Ethernet header on."""
        return cls._in(bytearray(offload) + frame, vif)

    @classmethod
    def _in(cls, own: bytearray, vif: str) -> Packet:
        return cls(memoryview(own), address_of(own), vif)

    def copy(self) -> Packet:
        """The same, in memory of its own: it stays as long as it is wanted."""
        at = self.address - self._base
        return self._in(bytearray(self._memory[at : at + self.size]), self.vif)

    # --- bytes ----------------------------------------------------------------------------------

    @property
    def data(self) -> memoryview:
        """The frame from its Ethernet header on, without checksum at its end; to be read and written."""
        at = self.address - self._base
        return self._memory[at + OFFLOAD_BYTES : at + self.size]

    def __len__(self) -> int:
        return self.size - OFFLOAD_BYTES

    def insert(self, at: int, header: bytes) -> None:
        """Put `header` before byte `at`: what stands before that moves to the front.

        ValueError where there is no room: 64 bytes are spare before each packet.
        """
        self._move_front(at, -len(header))
        self.data[at : at + len(header)] = header

    def remove(self, at: int, count: int) -> None:
        """Take `count` bytes out from byte `at` on."""
        self._move_front(at, count)

    def _move_front(self, length: int, by: int) -> None:
        """Move the offload header and the first `length` bytes `by` bytes towards the end."""
        start = self.address - self._base
        front = bytearray(self._memory[start : start + OFFLOAD_BYTES + length])
        if start + by < 0 or not 0 <= length <= len(self) or by > len(self) - length:
            raise ValueError(f"a packet of {len(self)} bytes can't be changed by {-by} bytes at byte {length}")
        flags, kind, headers, payload, begin, field = OFFLOAD.unpack_from(front)
        if flags & _NEEDS_CHECKSUM:
            begin -= by
        if headers:
            headers -= by
        OFFLOAD.pack_into(front, 0, flags, kind, headers, payload, begin, field)
        self._memory[start + by : start + by + len(front)] = front
        self.address += by
        self.size -= by

    # --- offload --------------------------------------------------------------------------------

    @property
    def checksum_unfinished(self) -> bool:
        """Whether its TCP or UDP checksum is left to be finished, by the kernel or the card, when it leaves."""
        return bool(self._memory[self.address - self._base] & _NEEDS_CHECKSUM)

    @property
    def large(self) -> bool:
        """Whether it is a large segment."""
        return bool(self._memory[self.address - self._base + 1])

    # --- headers: read in place, since they are asked of every packet ------------------------------

    @property
    def destination_mac(self) -> bytes:
        """Of the Ethernet header, 6 bytes."""
        at = self.address - self._base + OFFLOAD_BYTES
        return self._memory[at : at + 6].tobytes()

    @property
    def source_mac(self) -> bytes:
        """Of the Ethernet header, 6 bytes."""
        at = self.address - self._base + OFFLOAD_BYTES + 6
        return self._memory[at : at + 6].tobytes()

    @property
    def ethertype(self) -> int:
        """What follows the Ethernet header: 0x0800 IPv4, 0x0806 ARP, 0x86dd IPv6, 0x8100 a VLAN tag, ..."""
        data = self.data
        return data[12] << 8 | data[13]

    @property
    def destination(self) -> bytes:
        """The IP destination: 4 or 16 bytes; b"" where it isn't IP, or is cut short."""
        memory, at = self._memory, self.address - self._base + OFFLOAD_BYTES
        first, end = _DESTINATION.get(memory[at + 12] << 8 | memory[at + 13], (0, 0))
        return memory[at + first : at + end].tobytes() if self.size - OFFLOAD_BYTES >= end else b""

    def decrement_ttl(self) -> bool:
        """One hop less to live, and the IPv4 header checksum with it; False, and unchanged, where none would be left.

        RFC 791; RFC 8200; RFC 1624 for the checksum.  Only for packets with a `destination`.
        """
        memory, at = self._memory, self.address - self._base + OFFLOAD_BYTES
        if memory[at + 12] == 0x86:
            if memory[at + 21] <= 1:
                return False
            memory[at + 21] -= 1
            return True
        if memory[at + 22] <= 1:
            return False
        memory[at + 22] -= 1
        total = (memory[at + 24] << 8 | memory[at + 25]) + 0x0100  # a complement: 0x0100 less there is that more here
        total = total + (total >= 0xFFFF) & 0xFFFF
        memory[at + 24], memory[at + 25] = total >> 8, total & 0xFF
        return True


def address_of(memory: Any) -> int:
    """Where the bytes of a writable buffer are; they must not move."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
