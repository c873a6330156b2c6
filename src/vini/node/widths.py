"""Whether the network between nodes carries packets as long as this node's interface says.

The MTU of a tunnel follows from that of the interface below.  Where something on the way takes less, nobody says so:
what is too long is cut in pieces there, or lost.  So each path that links ride on is asked, once in a while, with an
echo request as long as can be, that nobody may cut (RFC 1191, RFC 8201); where only shorter ones are answered, a
sentence says how long they may be.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import select
import socket
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from vini.model import Way
from vini.node import echo, underlay

log = logging.getLogger("vini.agent")
_PERIOD_S = 60.0  # between two rounds over all paths
_TRIES = 3  # of one length: a network that loses packets is not narrow
_MOST_TOLD = 10  # paths
_PATIENCE_S = 1.0  # for each answer
_LEAST = {4: 576, 6: 1280}  # what every network carries (RFC 791, RFC 8200)
_HEADERS = {4: 28, 6: 48}  # IP and ICMP
_DISCOVER = {4: (socket.IPPROTO_IP, 10), 6: (socket.IPPROTO_IPV6, 23)}  # IP_MTU_DISCOVER, IPV6_MTU_DISCOVER
_PROBE = 3  # IP_PMTUDISC_PROBE: don't fragment, and ask anew whatever was learned of the path
_SECRET = 8  # bytes, by which an answer is known


class Widths:
    """How long packets may be on the paths of one node.  Found the same in two rounds, it is told."""

    def __init__(
        self, ridden: Callable[[], Collection[Way]],
        measure: Callable[[str, str, int], int] | None = None,
        interface: Callable[[str], tuple[str, int]] = underlay.interface_of,
    ):  # fmt: skip
        self._ridden, self._measure, self._interface = ridden, measure or measured, interface
        self._found: dict[Way, int] = {}  # in the last round
        self._sentences: dict[Way, str] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(_PERIOD_S * random.uniform(0.9, 1.0))
            await self.look()

    async def look(self) -> None:
        """One round over all paths."""
        ways = sorted(self._ridden())
        for known in (self._found, self._sentences):
            for way in known.keys() - set(ways):
                del known[way]
        for local, remote in ways:
            dev, mtu = self._interface(local)
            width = await asyncio.to_thread(self._measure, local, remote, mtu)
            self._note((local, remote), dev, mtu, width)

    def _note(self, way: Way, dev: str, mtu: int, width: int) -> None:
        before = self._found.get(way)
        self._found[way] = width
        if width == mtu:
            self._sentences.pop(way, None)
        elif width == before:
            sentence = (
                f"From {way[0]} to {way[1]} packets may have {width} bytes on their way, not {mtu} as its interface "
                f"says: longer ones are lost. `ip link set {dev} mtu {width}` there, then bring slices up anew."
            )
            if self._sentences.get(way) != sentence:
                log.warning("%s", sentence)
            self._sentences[way] = sentence

    def told(self) -> tuple[str, ...]:
        """A sentence of each path that carries less than its interface says; of many, how many more there are."""
        first = tuple(self._sentences[way] for way in sorted(self._sentences)[:_MOST_TOLD])
        more = len(self._sentences) - len(first)
        return (*first, f"{more} more ways from here carry less than their interface says.") if more else first


def measured(local: str, remote: str, mtu: int) -> int:
    """The longest packet that is answered, of `mtu` bytes at most; that, too, where nothing is answered at all.

    Blocks for a round trip; where packets are lost, for up to half a minute.
    """
    try:
        own = echo.opened(local)
    except OSError:  # nothing has that address any more
        return mtu
    with own:
        version = echo.version_of(local)
        own.setsockopt(*_DISCOVER[version], _PROBE)
        return widest(mtu, _LEAST[version], lambda size: _passes(own, version, remote, size))


def widest(mtu: int, least: int, passes: Callable[[int], bool]) -> int:
    """The most that passes, of `mtu` at most; `mtu` where not even `least` does: then it is not for the length.

    Lengths are even, as echo requests are made here.
    """
    low, high = least // 2, mtu // 2
    if low >= high or passes(2 * high) or not passes(2 * low):
        return mtu
    while high - low > 1:
        middle = (low + high) // 2
        if passes(2 * middle):
            low = middle
        else:
            high = middle
    return 2 * low


def _passes(own: socket.socket, version: int, remote: str, size: int) -> bool:
    """Whether a packet of that length comes back."""
    secret, identifier = os.urandom(_SECRET), random.randrange(1 << 16)
    body = echo.request(version, identifier, 0, secret, bytes(size - _HEADERS[version] - _SECRET))
    for _ in range(_TRIES):
        with suppress(OSError):  # what came back of an earlier one; EMSGSIZE: it does not even leave
            own.sendto(body, (remote, 0))
        if _is_answered(own, version, identifier, secret):
            return True
    return False


def _is_answered(own: socket.socket, version: int, identifier: int, secret: bytes) -> bool:
    ready, end = select.poll(), time.monotonic() + _PATIENCE_S
    ready.register(own, select.POLLIN)
    while (left := end - time.monotonic()) > 0:
        ready.poll(1e3 * left)
        with suppress(OSError):
            while True:
                if echo.answered(own.recv(256), version, identifier, secret) is not None:
                    return True
    return False
