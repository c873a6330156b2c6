"""One vif as a pair of queues: a ring that the kernel fills, and batches that leave by one system call.

packet(7) and Documentation/networking/packet_mmap.rst.  The ring is TPACKET_V2's: version 3 hands over blocks of
packets, and a packet that comes alone waits at least a millisecond for its block to be closed.  A frame of the ring
has room for a packet of 1900 bytes; what is larger is read from the socket (PACKET_COPY_THRESH).
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import socket
import struct
from array import array
from ctypes import c_int, c_size_t, c_uint, c_void_p

from vini.packets.packet import OFFLOAD_BYTES, Packet, address_of

FRAMES = 2048  # that may wait for us
FRAME_BYTES = 2048
BATCH = 256  # packets at a time, so that no vif keeps the others waiting
_LONGEST = 1 << 17  # bytes of a large segment with all its headers
_SPARE = 64  # bytes before each packet, for headers that are put in
_ETH_P_ALL = 0x0003
_SOL_PACKET = 263
_RX_RING, _STATISTICS, _COPY_THRESH, _VERSION, _RESERVE, _VNET_HDR, _IGNORE_OUTGOING = 5, 6, 7, 10, 12, 15, 23
_TPACKET_V2 = 1
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_SENT_BYTES, _LARGE_BYTES = 64 << 20, 16 << 20  # of socket buffers
_COPY, _VLAN, _VLAN_TYPE = 2, 0x10, 0x40  # of tp_status, which is 0 while a frame is the kernel's
_AT_ONCE = 1024  # messages of a system call (UIO_MAXIOV)


class _Message(ctypes.Structure):  # struct mmsghdr, sendmmsg(2)
    _fields_ = (
        ("name", c_void_p), ("namelen", c_uint), ("iov", c_void_p), ("iovlen", c_size_t), ("control", c_void_p),
        ("controllen", c_size_t), ("flags", c_int), ("len", c_uint),
    )  # fmt: skip


_libc = ctypes.CDLL(None, use_errno=True)
_libc.sendmmsg.argtypes = (c_int, c_void_p, c_uint, c_int)


class Counters:
    """What happened at a vif so far; a large segment is one packet."""

    __slots__ = ("bytes_in", "bytes_out", "dropped_in", "dropped_out", "packets_in", "packets_out")

    def __init__(self) -> None:
        self.packets_in = self.bytes_in = 0
        self.dropped_in = 0  # came while the ring was full
        self.packets_out = self.bytes_out = 0
        self.dropped_out = 0  # the kernel refused: its queue is full, the link is down, the packet is too long

    def as_dict(self) -> dict[str, int]:
        """By name."""
        return {name: getattr(self, name) for name in ("packets_in", "bytes_in", "dropped_in",
                                                        "packets_out", "bytes_out", "dropped_out")}  # fmt: skip


class Vif:
    """An open vif: `name`, `mac` (6 bytes), `mtu`, `counters`."""

    def __init__(self, name: str, index: int, mac: bytes, mtu: int):
        """OSError where there is none, or where this process may not (it needs CAP_NET_RAW and CAP_NET_ADMIN)."""
        self.name, self.index, self.mac, self.mtu = name, index, mac, mtu
        self.counters = Counters()
        self.outgoing: list[int] = []  # address and size, in turn, of what `send` will send
        self._large: list[bytearray] = []  # memory of large segments that came, used again and again
        self._taken = 0  # frames of the ring that are in use
        self._next = 0  # frame of the ring that the kernel fills next
        self._open()
        self._messages = (_Message * _AT_ONCE)()
        self._vectors = array("Q", bytes(16 * _AT_ONCE))
        first = address_of(self._vectors)
        for i, message in enumerate(self._messages):
            message.iov, message.iovlen = first + 16 * i, 1

    def _open(self) -> None:
        self.socket = s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        for option, value in (
            (_VERSION, _TPACKET_V2),
            (_VNET_HDR, 1),
            (_RESERVE, _SPARE),
            (_COPY_THRESH, 1),
            (_IGNORE_OUTGOING, 1),
        ):
            s.setsockopt(_SOL_PACKET, option, value)
        # What waits in the link's own queue counts as this socket's: that queue decides what is dropped, not we.
        s.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SENT_BYTES)
        s.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _LARGE_BYTES)
        block = 1 << 16
        ring = struct.pack("=4I", block, FRAMES * FRAME_BYTES // block, FRAME_BYTES, FRAMES)  # struct tpacket_req
        s.setsockopt(_SOL_PACKET, _RX_RING, ring)
        self._memory = memoryview(mmap.mmap(s.fileno(), FRAMES * FRAME_BYTES))
        self._base = address_of(self._memory)
        words = self._memory.cast("I")
        step = FRAME_BYTES // 4
        # struct tpacket2_hdr, one column a field: whole columns are read and written at once.
        self._status, self._whole, self._kept, self._where = (words[i::step] for i in range(4))
        self._vlan = words[6::step]
        self._packets = [Packet(self._memory, self._base, self.name) for _ in range(FRAMES)]
        self._frames = [self._base + i * FRAME_BYTES - OFFLOAD_BYTES for i in range(FRAMES)]
        s.bind((self.name, _ETH_P_ALL))

    def close(self) -> None:
        """Let go of it; packets that are still held keep their memory."""
        self.socket.close()

    # --- in -------------------------------------------------------------------------------------

    def receive(self) -> list[Packet]:
        """What has come, at most BATCH packets; their memory is the kernel's again after `release`."""
        first = self._next
        end = min(first + BATCH, FRAMES)
        status = self._status[first:end].tolist()
        if 0 in status:
            del status[status.index(0) :]  # the kernel's still
        if not status:
            return []
        end = first + len(status)
        out = self._packets[first:end]
        kept = self._kept[first:end].tolist()
        columns = zip(out, self._frames[first:end], self._where[first:end].tolist(), kept, strict=True)
        for packet, frame, where, length in columns:
            packet.address = frame + (where & 0xFFFF)  # tp_mac
            packet.size = length + OFFLOAD_BYTES
        whole = self._whole[first:end].tolist()
        self.counters.packets_in += len(status)
        self.counters.bytes_in += sum(whole)
        self._taken = len(status)
        if kept != whole or any(s & _VLAN for s in set(status)):
            return self._mended(out, first, [k != w for k, w in zip(kept, whole, strict=True)])
        return out

    def _mended(self, out: list[Packet], first: int, cut: list[bool]) -> list[Packet]:
        """Large segments from the socket in place of their beginnings; VLAN tags back where they were."""
        mended: list[Packet] = []
        for frame, packet in enumerate(out, first):
            status = self._status[frame]
            if status & _COPY:
                packet = self._read_large(len(mended))
            elif cut[frame - first]:  # and the socket's buffer was full
                self.counters.dropped_in += 1
                continue
            if status & _VLAN:
                tag = self._vlan[frame]
                kind = tag >> 16 if status & _VLAN_TYPE else 0x8100
                packet.insert(12, struct.pack(">HH", kind, tag & 0xFFFF))
            mended.append(packet)
        return mended

    def _read_large(self, number: int) -> Packet:
        while len(self._large) <= number:
            self._large.append(bytearray(_SPARE + _LONGEST))
        own = self._large[number]
        packet = Packet(memoryview(own), address_of(own), self.name)
        packet.address += _SPARE
        packet.size = self.socket.recv_into(memoryview(own)[_SPARE:], 0, socket.MSG_DONTWAIT)
        return packet

    def release(self) -> None:
        """Give what `receive` gave back to the kernel."""
        end = self._next + self._taken
        self._status[self._next : end] = _FREE[: self._taken]
        self._next, self._taken = end % FRAMES, 0

    def notice_drops(self) -> None:
        """Ask the kernel how many packets found the ring full."""
        _, drops = struct.unpack("=II", self.socket.getsockopt(_SOL_PACKET, _STATISTICS, 8))
        self.counters.dropped_in += drops

    # --- out ------------------------------------------------------------------------------------

    def send(self) -> None:
        """Send all that is in `outgoing`; what the kernel refuses is dropped and counted."""
        outgoing, self.outgoing = self.outgoing, []
        for at in range(0, len(outgoing), 2 * _AT_ONCE):
            chunk = array("Q", outgoing[at : at + 2 * _AT_ONCE])
            self._vectors[: len(chunk)] = chunk
            self._send(chunk, len(chunk) // 2)

    def _send(self, chunk: array[int], count: int) -> None:
        counters, done = self.counters, 0
        counters.packets_out += count
        counters.bytes_out += sum(chunk[1::2]) - count * OFFLOAD_BYTES
        messages, size, fd = ctypes.addressof(self._messages), ctypes.sizeof(_Message), self.socket.fileno()
        while done < count:
            sent = _libc.sendmmsg(fd, messages + done * size, count - done, socket.MSG_DONTWAIT)
            if sent < 0:  # the first of them
                sent = count - done if ctypes.get_errno() == errno.EAGAIN else 1
                counters.packets_out -= sent
                counters.bytes_out -= sum(chunk[2 * done + 1 : 2 * (done + sent) : 2]) - sent * OFFLOAD_BYTES
                counters.dropped_out += sent
            done += sent


_FREE = memoryview(array("I", bytes(4 * BATCH)))
