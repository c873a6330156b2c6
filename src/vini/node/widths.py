"""Whether the network between nodes carries packets as long as the links over it need.

The MTU of a tunnel follows from those of the interfaces below, of both nodes.  Where something on the way takes less,
nobody says so: what is too long is cut in pieces there, or lost.  So each path that links ride on is asked, once in a
while, with an echo request as long as the longest packet of those links, that nobody may cut (RFC 1191, RFC 8201);
where only shorter ones are answered, a sentence says how long they may be.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from vini import mirror
from vini.model import Gretap, Interface, SliceSpec, Tunnel, Vxlan, VxlanXdp, Way, Wireguard
from vini.node import echo, underlay
from vini.plugins.tunnels import STACKS, TunnelKind

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
        self, ridden: Callable[[], Mapping[Way, int]],
        measure: Callable[[str, str, int], Awaitable[int]] | None = None,
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
        ways = dict(self._ridden())
        for known in (self._found, self._sentences):
            for way in known.keys() - ways:
                del known[way]
        for (local, remote), longest in sorted(ways.items()):
            dev, mtu = self._interface(local)
            needed = min(mtu, longest)
            width = await self._measure(local, remote, needed)
            self._note((local, remote), dev, needed, width)

    def _note(self, way: Way, dev: str, needed: int, width: int) -> None:
        before = self._found.get(way)
        self._found[way] = width
        if width == needed:
            self._sentences.pop(way, None)
        elif width == before:
            sentence = (
                f"From {way[0]} to {way[1]} packets may have {width} bytes on their way, not {needed} as links "
                f"need: longer ones are lost. `ip link set {dev} mtu {width}` there, then bring slices up anew."
            )
            if self._sentences.get(way) != sentence:
                log.warning("%s", sentence)
            self._sentences[way] = sentence

    def told(self) -> tuple[str, ...]:
        """A sentence of each path that carries less than its links need; of many, how many more there are."""
        first = tuple(self._sentences[way] for way in sorted(self._sentences)[:_MOST_TOLD])
        more = len(self._sentences) - len(first)
        return (*first, f"{more} more ways from here carry less than their links need.") if more else first


def lengths(spec: SliceSpec) -> dict[Way, int]:
    """The paths that links ride on, and the longest packet of any of these links there, in bytes."""
    paths = mirror.paths(spec)
    kind = _kind(spec) if paths else None
    if kind is None:
        return {}
    inside = {(o.ns, o.dev): o.mtu for o in spec.objects if isinstance(o, Interface)}
    found: dict[Way, int] = {}
    for at, way in paths.items():
        length = inside.get(at, 0) + STACKS[kind].overhead[echo.version_of(way[0])]
        found[way] = max(length, found.get(way, 0))
    return found


def _kind(spec: SliceSpec) -> TunnelKind | None:
    """All tunnels of a slice are of one."""
    if any(isinstance(o, Wireguard) for o in spec.objects):
        return "wireguard"
    kinds: dict[type, TunnelKind] = {Vxlan: "vxlan", VxlanXdp: "vxlan-xdp", Gretap: "gretap"}
    return next((kinds[type(o)] for o in spec.objects if isinstance(o, Tunnel)), None)


async def measured(local: str, remote: str, mtu: int) -> int:
    """The longest packet that is answered, of `mtu` bytes at most; that, too, where nothing is answered at all.

    Takes a round trip; where packets are lost, up to half a minute, in no thread: an agent that ends waits for those.
    """
    try:
        own = echo.opened(local)
    except OSError:  # nothing has that address any more
        return mtu
    with own:
        version = echo.version_of(local)
        own.setsockopt(*_DISCOVER[version], _PROBE)
        return await widest(mtu, _LEAST[version], lambda size: _passes(own, version, remote, size))


async def widest(mtu: int, least: int, passes: Callable[[int], Awaitable[bool]]) -> int:
    """The most that passes, of `mtu` at most; `mtu` where not even `least` does: then it is not for the length.

    Lengths are even, as echo requests are made here.
    """
    low, high = least // 2, mtu // 2
    if low >= high or await passes(2 * high) or not await passes(2 * low):
        return mtu
    while high - low > 1:
        middle = (low + high) // 2
        if await passes(2 * middle):
            low = middle
        else:
            high = middle
    return 2 * low


async def _passes(own: socket.socket, version: int, remote: str, size: int) -> bool:
    """Whether a packet of that length comes back."""
    secret, identifier = os.urandom(_SECRET), random.randrange(1 << 16)
    body = echo.request(version, identifier, 0, secret, bytes(size - _HEADERS[version] - _SECRET))
    for _ in range(_TRIES):
        with suppress(OSError):  # what came back of an earlier one; EMSGSIZE: it does not even leave
            own.sendto(body, (remote, 0))
        if await _is_answered(own, version, identifier, secret):
            return True
    return False


async def _is_answered(own: socket.socket, version: int, identifier: int, secret: bytes) -> bool:
    loop = asyncio.get_running_loop()
    with suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                with suppress(OSError):  # what came back of an earlier one
                    body = await loop.sock_recv(own, 256)
                    if echo.answered(body, version, identifier, secret) is not None:
                        return True
                await asyncio.sleep(0)  # whatever others send, all else goes on
    return False
