"""rtnetlink in batches: many requests in one send, and what the kernel says to each (netlink(7), rtnetlink(7)).

Written instead of using pyroute2 because that costs 1.4 ms a call and this 0.03 ms, which is
the difference between 4 s and 0.3 s for a no-op pass over a thousand slivers (docs/reference/benchmarks.md).
It knows only the message layouts; what they mean for our objects stands in the drivers.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from types import TracebackType

# Message types and flags (linux/rtnetlink.h, linux/netlink.h).
GENERIC = 16  # NETLINK_GENERIC, the protocol of messages that have no number of their own; 0 is rtnetlink
NEWLINK, DELLINK, GETLINK, SETLINK = 16, 17, 18, 19
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
NEWNEIGH, DELNEIGH, GETNEIGH = 28, 29, 30
GETNETCONF = 82
NEWNSID, GETNSID = 88, 90
NEWQDISC, DELQDISC, GETQDISC = 36, 37, 38
NEWTCLASS, DELTCLASS, GETTCLASS = 40, 41, 42
NEWTFILTER, DELTFILTER, GETTFILTER = 44, 45, 46
REQUEST, ACK, DUMP = 1, 4, 0x300
REPLACE, EXCL, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800
_ERROR, _DONE, _DUMP_INTR = 2, 3, 0x10
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_FLAGS_SEQUENCE = struct.Struct("=HI")
_ERRNO = struct.Struct("=i")
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_SOL_NETLINK, _GET_STRICT_CHK = 270, 12
_SO_RCVBUFFORCE = 33
_REQUESTS = 200  # on their way at a time: their answers fit into the smallest usual receive buffer
_LONGEST = 64 * 1024  # bytes that the kernel sends at once: 32 KiB of a dump (netlink_recvmsg), or one answer
_BATCH = 64 * 1024  # bytes of requests on their way at a time; the answers must fit into the receive buffer


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes (netlink(7), RTA_ALIGN)."""
    n = 4 + len(value)
    return _ATTRIBUTE.pack(n, kind) + value + b"\0" * (-n & 3)


def text(kind: int, value: str) -> bytes:
    """An attribute that is a NUL-terminated string."""
    return attribute(kind, value.encode() + b"\0")


def u32(kind: int, value: int) -> bytes:
    """An attribute that is an unsigned 32-bit number in the machine's order."""
    return struct.pack("=HHI", 8, kind, value)


def number(value: bytes | None, otherwise: int = 0) -> int:
    """The number in such an attribute; `otherwise` where it is not there."""
    return int.from_bytes(value, "little") if value else otherwise


def nest(kind: int, *attributes: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | 0x8000, b"".join(attributes))


def message(kind: int, flags: int, body: bytes) -> bytes:
    """A request without its sequence number, which `Socket` writes."""
    return _HEADER.pack(16 + len(body), kind, flags | REQUEST, 0, 0) + body


def attributes(buffer: bytes, start: int) -> dict[int, bytes]:
    """The attributes of a message (or of a nest, start=0) by their type; of repeated ones the last."""
    out, at, end, unpack = {}, start, len(buffer), _ATTRIBUTE.unpack_from
    while at + 4 <= end:
        length, kind = unpack(buffer, at)
        if length < 4:
            break
        out[kind & 0x3FFF] = buffer[at + 4 : at + length]
        at += (length + 3) & ~3
    return out


class Socket:
    """A netlink socket of the namespace that the calling thread is in when it is made."""

    def __init__(self, protocol: int = 0) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        with suppress(PermissionError):  # room for the refusals of a whole batch, beyond net.core.rmem_max
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 20)
        self._socket.setsockopt(_SOL_NETLINK, _GET_STRICT_CHK, 1)  # dumps filtered by the kernel
        self._sequence = 0

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """For ioctl(2)."""
        return self._socket.fileno()

    def transact(self, requests: Sequence[bytes]) -> list[int]:
        """Do all requests, in order; the errno of each (0: done).  One failing does not stop the next."""
        errors: list[int] = []
        at = 0
        while at < len(requests):
            size, end = 0, at
            while end < len(requests) and end - at < _REQUESTS and (end == at or size + len(requests[end]) <= _BATCH):
                size += len(requests[end])
                end += 1
            errors += self._exchange(requests[at:end])
            at = end
        return errors

    def insist(self, requests: Sequence[bytes], doing: str = "", allowed: Container[int] = (0,)) -> None:
        """Do all requests.  OSError, told with what was being done, for the first that has another errno than these."""
        for errno in self.transact(requests):
            if errno not in allowed:
                raise OSError(errno, f"{doing}: {os.strerror(errno)}" if doing else os.strerror(errno))

    def _exchange(self, requests: Sequence[bytes]) -> list[int]:
        """Only the last asks for an answer when it is done; one that fails is answered all the same, and in order."""
        first = self._sequence + 1
        self._sequence += len(requests)
        out = bytearray()
        for sequence, request in enumerate(requests, first):
            at = len(out)
            out += request
            flags = int.from_bytes(request[6:8], "little") | (ACK if sequence == self._sequence else 0)
            _FLAGS_SEQUENCE.pack_into(out, at + 6, flags, sequence)
        self._socket.send(out)
        errors: dict[int, int] = {}
        while self._sequence not in errors:
            for kind, _, sequence, body in self._receive():
                if kind == _ERROR and first <= sequence <= self._sequence:
                    errors[sequence] = -_ERRNO.unpack_from(body, 16)[0]
        return [errors.get(sequence, 0) for sequence in range(first, self._sequence + 1)]

    def ask(self, request: bytes) -> bytes:
        """The one message that answers a request, with its header; b"" where the kernel has no answer."""
        self._sequence += 1
        sent = bytearray(request)
        struct.pack_into("=HI", sent, 6, REQUEST, self._sequence)
        self._socket.send(sent)
        while True:
            for kind, _, sequence, body in self._receive():
                if sequence == self._sequence:
                    return b"" if kind == _ERROR else body

    def dump(self, request: bytes) -> list[bytes]:
        """All messages that answer a dump request, each with its header (16 bytes).

        Asked again when the kernel says that the table changed underneath (NLM_F_DUMP_INTR).
        """
        for _ in range(5):
            out, whole = self._dump_once(request)
            if whole:
                break
        return out

    def measure(self, request: bytes, most: int) -> int:
        """Bytes of all messages that answer a dump request, of which there may be millions, so none is kept.

        Where they are more than `most` it gives up early, and this socket is good for nothing more.
        """
        self._send_dump(request)
        total = 0
        while total <= most:
            for kind, _, sequence, body in self._receive():
                if sequence == self._sequence:
                    if kind in (_DONE, _ERROR):
                        return total
                    total += len(body)
        return total

    def _send_dump(self, request: bytes) -> None:
        self._sequence += 1
        sent = bytearray(request)
        struct.pack_into("=HI", sent, 6, REQUEST | DUMP, self._sequence)
        self._socket.send(sent)

    def _dump_once(self, request: bytes) -> tuple[list[bytes], bool]:
        self._send_dump(request)
        out: list[bytes] = []
        whole = True
        while True:
            for kind, flags, sequence, body in self._receive():
                if sequence != self._sequence:
                    continue
                whole &= not flags & _DUMP_INTR
                if kind == _DONE:
                    return out, whole
                if kind == _ERROR:
                    errno = -struct.unpack_from("=i", body, 16)[0]
                    raise OSError(errno, f"the kernel refused a netlink dump: {os.strerror(errno)}")
                out.append(body)

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        buffer = self._socket.recv(_LONGEST)
        at = 0
        while at + 16 <= len(buffer):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(buffer, at)
            yield kind, flags, sequence, buffer[at : at + length]
            at += (length + 3) & ~3
