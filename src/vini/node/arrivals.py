"""What arrives from other nodes besides answers to our echo requests: the sign of life where a flood costs us those.

Looked for only while a path is in doubt, so it costs nothing as long as all is well.  For each such path there are

- a raw socket (raw(7)) for each protocol that tunnels have, connected to the other node's address: the kernel gives it
  a copy of what tunnels receive from there, and drops most of them for want of room.  One is enough;
- one for the other node's own echo requests, whose note tells whether it hears *us* (`echo.note`);
- where tunnels are carried at XDP, whose packets no socket ever sees, what their pairs were given.

Any packet with the other node's address will do, whoever made it: tunnels (VXLAN) trust addresses, too.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from vini.model import Way
from vini.node import echo

_PROTOCOLS = (socket.IPPROTO_UDP, socket.IPPROTO_GRE)  # VXLAN and WireGuard; E-GRE
_MOST = 64  # paths in doubt at a time that are listened to: three sockets each
_LOOK_S = 0.1  # between two looks at counters
_AT_ONCE = 64  # packets that are read in one go


class Heard(NamedTuple):
    """A packet of the other node has arrived."""

    way: Way
    hears: bool | None  # whether it says that it hears us; None: it does not say


class Arrivals:
    """`carried` counts the packets that XDP took for tunnels, by the path; None: there are no such tunnels."""

    def __init__(self, carried: Callable[[Collection[Way]], Mapping[Way, int]] | None = None):
        self._carried = carried
        self._ears: dict[Way, _Ears] = {}
        self._counted: dict[Way, int] = {}
        self._looked = 0.0

    def listen(self, ways: Collection[Way]) -> None:
        """To these from now on, and to no others."""
        for way in [w for w in self._ears if w not in ways]:
            self._ears.pop(way).close()
            self._counted.pop(way, None)
        for way in sorted(set(ways) - self._ears.keys())[: _MOST - len(self._ears)]:
            with suppress(OSError):  # not our address any more, or no descriptor left: there is only the silence
                self._ears[way] = _Ears(way)

    def heard(self) -> Iterator[Heard]:
        """What has arrived since."""
        for way, ears in self._ears.items():
            yield from ears.heard(way)
        now = time.monotonic()
        if self._carried and self._ears and now - self._looked >= _LOOK_S:
            self._looked = now
            for way, count in self._carried(self._ears.keys()).items():
                if count > self._counted.get(way, count):  # it falls where a tunnel goes
                    yield Heard(way, None)
                self._counted[way] = count

    def close(self) -> None:
        """Listen to nothing."""
        self.listen(())


class _Ears:
    """Sockets that get what one other node sends us."""

    def __init__(self, way: Way):
        local, remote = way
        self._version = echo.version_of(local)
        self._requests = echo.opened(local, requests=True)
        self._others: list[socket.socket] = []
        family = socket.AF_INET if self._version == 4 else socket.AF_INET6
        try:
            for protocol in _PROTOCOLS:
                one = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
                self._others.append(one)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the least: the rest is dropped at once
                one.bind((local, 0))
            for one in (self._requests, *self._others):
                one.connect((remote, 0))
        except OSError:
            self.close()
            raise

    def heard(self, way: Way) -> Iterator[Heard]:
        for packet in _read(self._requests):
            is_ours, hears = echo.noted(packet, self._version)
            if is_ours:
                yield Heard(way, hears)
        for one in self._others:
            if any(True for _ in _read(one)):
                yield Heard(way, None)

    def close(self) -> None:
        for one in (self._requests, *self._others):
            one.close()


def _read(one: socket.socket) -> Iterator[bytes]:
    for _ in range(_AT_ONCE):
        try:
            yield one.recv(256)
        except OSError:
            return
