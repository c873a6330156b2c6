"""Echo requests (RFC 792, RFC 4443) from the addresses that tunnels have, and the answers of other nodes' kernels."""

from __future__ import annotations

import errno
import os
import random
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address

from vini.model import Way

_REQUEST, _REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}  # ICMP types
_HEAD = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence number
_SOL_RAW, _ICMP_FILTER, _ICMP6_FILTER = 255, 1, 1  # socket options: which types are not wanted (raw(7), RFC 3542)
_SO_RCVBUFFORCE = 33  # beyond what an administrator allows to others (socket(7))
_CONTROL = 0xC0  # precedence of network control (RFC 791): a queue full of data is no failure
_SECRET = 8  # bytes, of an agent's own
_NOTE = struct.Struct("!4sB3x")
_MAGIC = b"VINI"
_SAYS = {None: 0, True: 1, False: 2}
_AT_ONCE = 10_000  # answers that are read in one go


class IcmpEcho:
    """Echo requests from the very addresses that tunnels have.

    Each carries a secret, so that nobody who can't see them answers for a path that is dead.  What can't be sent is a
    request without an answer.
    """

    def __init__(self) -> None:
        self._sockets: dict[str, socket.socket] = {}  # local address -> one
        self._secret, self._id, self._number = os.urandom(_SECRET), random.randrange(1 << 16), 0

    def send(self, way: Way, hears: bool | None = None) -> None:
        """As `paths.Echo`."""
        local, remote = way
        self._number = (self._number + 1) & 0xFFFF
        body = request(version_of(local), self._id, self._number, self._secret, note(hears))
        with suppress(OSError):
            self._socket(local).sendto(body, (remote, 0))

    def _socket(self, local: str) -> socket.socket:
        if local not in self._sockets:
            self._sockets[local] = opened(local)
        return self._sockets[local]

    def receive(self) -> Iterable[Way]:
        """As `paths.Echo`."""
        for local, own in self._sockets.items():
            version = version_of(local)
            for _ in range(_AT_ONCE):
                try:
                    body, sender = own.recvfrom(256)
                except OSError as e:  # what came back of an earlier one, such as that there is no such host
                    if e.errno in (errno.EAGAIN, errno.EINTR):
                        break
                    continue
                if answered(body, version, self._id, self._secret) is not None:
                    yield local, str(ip_address(sender[0].partition("%")[0]))

    def close(self) -> None:
        """As `paths.Echo`."""
        for own in self._sockets.values():
            own.close()
        self._sockets.clear()


def version_of(address: str) -> int:
    """4 or 6."""
    return 4 if "." in address else 6


def request(version: int, identifier: int, number: int, secret: bytes, more: bytes = b"") -> bytes:
    """An ICMP message; the lengths of `secret` and of what follows it are even."""
    kind = _REQUEST[version]
    head = _HEAD.pack(kind, 0, 0, identifier, number)
    if version == 4:  # of ICMPv6 the kernel makes it, which knows the addresses
        head = _HEAD.pack(kind, 0, checksum(head + secret + more), identifier, number)
    return head + secret + more


def note(hears: bool | None) -> bytes:
    """What a request tells the other node's agent, after the secret: whether we hear it.  None: we don't know."""
    return _NOTE.pack(_MAGIC, _SAYS[hears])


def noted(body: bytes, version: int) -> tuple[bool, bool | None]:
    """Whether this packet is a request of another node's agent, and whether that one hears us."""
    if version == 4:
        body = body[(body[0] & 15) * 4 :]
    if len(body) != _HEAD.size + _SECRET + _NOTE.size or body[0] != _REQUEST[version]:
        return False, None
    magic, says = _NOTE.unpack_from(body, _HEAD.size + _SECRET)
    return magic == _MAGIC, next((hears for hears, number in _SAYS.items() if number == says), None)


def answered(body: bytes, version: int, identifier: int, secret: bytes) -> int | None:
    """The number of our request that this packet answers; None where it is none of ours."""
    if version == 4:
        body = body[(body[0] & 15) * 4 :]
    if len(body) < _HEAD.size + len(secret):
        return None
    kind, _, _, whose, number = _HEAD.unpack_from(body)
    quoted = body[_HEAD.size : _HEAD.size + len(secret)]
    return number if (kind, whose, quoted) == (_REPLY[version], identifier, secret) else None


def opened(local: str, requests: bool = False) -> socket.socket:
    """A socket for echo requests from that address, and the answers; with `requests`, for those of others instead.

    Raises OSError.
    """
    wanted = _REQUEST if requests else _REPLY
    if "." in local:
        own = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP)
        own.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF & ~(1 << wanted[4])))
        own.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _CONTROL)
    else:
        own = socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMPV6)
        words = [0xFFFFFFFF] * 8
        words[wanted[6] >> 5] &= ~(1 << (wanted[6] & 31))
        own.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *words))
        own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _CONTROL)
    with suppress(OSError):  # as much as a thousand paths answer at once
        own.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 22)
    try:
        own.bind((local, 0))
    except OSError:
        own.close()
        raise
    return own


def checksum(body: bytes) -> int:
    """Of the Internet (RFC 1071); the length is even."""
    words: tuple[int, ...] = struct.unpack(f"!{len(body) // 2}H", body)
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
