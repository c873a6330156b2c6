"""How long packets may be on the network between nodes, where that is less than links over it need.

The MTU of a tunnel follows from those of the interfaces below, of both nodes.  Where something on the way takes less,
nobody says so: what is too long is cut in pieces there, or lost.  So each path that links take is asked when the first
link comes, and then once in a while, with an echo request as long as the longest packet of those links, that nobody may
cut (RFC 1191, RFC 8201).  Where only shorter ones are answered, links whose packets would be lost get a lower MTU
(`rules.narrow`) for as long as they need more, and a sentence says how long packets may be, for as long as the
interface below says more.

**Silence says nothing.**  A path that answers not even what every network carries is taken to be as it was.  What was
found is on disk, so that is true of an agent that starts, too, whatever is away at that moment.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from vini.model import Value, Way
from vini.node import echo, underlay

log = logging.getLogger("vini.agent")
_PERIOD_S = 60.0  # between two rounds over all paths
_LOOK_S = 2.0  # between looks whether there are new ones
_TRIES = 3  # of one length: a network that loses packets is not narrow
_MOST_TOLD = 10  # paths
_AT_ONCE = 10  # are asked: silent ones take six seconds each
_PATIENCE_S = 1.0  # for each answer, where nobody knows how soon they come
_LEAST_PATIENCE_S, _TIMES = 0.2, 4.0  # else so many times as long as one took, but not less than that
_LEAST = {4: 576, 6: 1280}  # what every network carries (RFC 791, RFC 8200)
_HEADERS = {4: 28, 6: 48}  # IP and ICMP
_DISCOVER = {4: (socket.IPPROTO_IP, 10), 6: (socket.IPPROTO_IPV6, 23)}  # IP_MTU_DISCOVER, IPV6_MTU_DISCOVER
_PROBE = 3  # IP_PMTUDISC_PROBE: don't fragment, and ask anew whatever was learned of the path
_SECRET = 8  # bytes, by which an answer is known


class Widths:
    """What the paths of one node carry that carry less than their links need.

    `narrow` has them, in bytes; it is never changed, but replaced, so any thread may read it.  `changed` is set when it
    is another.  `silent` says which paths are known to answer nothing now: these are asked once they do.
    """

    def __init__(
        self, file: Path | None = None, changed: asyncio.Event | None = None,
        measure: Callable[[str, str, int], Awaitable[int | None]] | None = None,
        interface: Callable[[str], tuple[str, int]] = underlay.interface_of,
        silent: Callable[[], Collection[Way]] = frozenset,
    ):  # fmt: skip
        self._file, self._measure, self._interface, self._silent = file, measure or measured, interface, silent
        self.changed = changed or asyncio.Event()
        self._asked: dict[Way, int] = {}  # for packets of how many bytes
        self._sentences: dict[Way, str] = {}
        self.narrow: Mapping[Way, int] = self._read()

    async def run(self, ridden: Callable[[], Mapping[Way, int]]) -> None:
        """Ask those that links take, and how long packets these need, as `ridden` says now; until cancelled."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._all(ridden))
            both.create_task(self._new(ridden))

    async def _all(self, ridden: Callable[[], Mapping[Way, int]]) -> None:
        while True:
            await self.look(ridden())
            await asyncio.sleep(_PERIOD_S * random.uniform(0.9, 1.0))

    async def _new(self, ridden: Callable[[], Mapping[Way, int]]) -> None:
        """Those that were never asked, or not for such long packets, wait for no round to be over."""
        while True:
            ways, silent = ridden(), self._silent()
            new = {way for way, longest in ways.items() if longest > self._asked.get(way, 0) and way not in silent}
            if new:
                await self.look(ways, new)
            await asyncio.sleep(_LOOK_S)

    async def look(self, ways: Mapping[Way, int], among: Collection[Way] | None = None) -> None:
        """One round over all of these paths, or over some; what is known of others is forgotten."""
        silent, some = self._silent(), ways if among is None else among
        self._asked = {w: asked for w, asked in self._asked.items() if w in ways and w not in silent}
        self._sentences = {w: sentence for w, sentence in self._sentences.items() if w in ways}
        self._tell({w: width for w, width in self.narrow.items() if w in ways})
        answering = sorted(way for way in some if way not in silent)
        self._asked |= {way: ways[way] for way in answering}
        below = {local: self._interface(local) for local in {local for local, _ in answering}}
        turns = asyncio.Semaphore(_AT_ONCE)

        async def ask(way: Way) -> None:
            async with turns:
                dev, mtu = below[way[0]]
                width = await self._width(way, min(mtu, ways[way]))
            if width is not None:
                self._note(way, dev, mtu, ways[way], width)

        async with asyncio.TaskGroup() as round_:
            for way in answering:
                round_.create_task(ask(way))

    async def _width(self, way: Way, needed: int) -> int | None:
        """How long packets may be, up to what is needed; None: nobody can say for sure now."""
        width = await self._measure(*way, needed)
        if width is None or width in (needed, self.narrow.get(way)):
            return width
        again = await self._measure(*way, needed)
        return again if again in (needed, width) else None  # twice the same is no chance

    def _note(self, way: Way, dev: str, mtu: int, longest: int, width: int) -> None:
        """What was found of a path whose interface takes `mtu`, and whose links need `longest`."""
        needed = min(mtu, longest)
        if width < needed:
            sentence = (
                f"From {way[0]} to {way[1]} packets may have {width} bytes, not {needed} as links need: those are cut "
                f"in pieces or get a lower MTU. `ip link set {dev} mtu {width}` there, then bring slices up anew."
            )
            if self._sentences.get(way) != sentence:
                log.warning("%s", sentence)
            self._sentences[way] = sentence
        else:
            self._sentences.pop(way, None)
        narrow = {w: known for w, known in self.narrow.items() if w != way}
        self._tell({**narrow, way: width} if width < longest else narrow)

    def _tell(self, narrow: Mapping[Way, int]) -> None:
        if narrow != self.narrow:
            self.narrow = narrow
            self.changed.set()
            self._write()

    def told(self) -> tuple[str, ...]:
        """A sentence of each path that carries less than its links need; of many, how many more there are."""
        first = tuple(self._sentences[way] for way in sorted(self._sentences)[:_MOST_TOLD])
        more = len(self._sentences) - len(first)
        return (*first, f"{more} more ways from here carry less than their links need.") if more else first

    # --- what is known, on disk -----------------------------------------------------------------

    def _read(self) -> dict[Way, int]:
        try:
            known = msgspec.json.decode(self._file.read_bytes(), type=list[_Known]) if self._file else []
        except (FileNotFoundError, msgspec.DecodeError):
            return {}
        return {(k.local, k.remote): k.width for k in known}

    def _write(self) -> None:
        """Best effort: where the disk does not take it, an agent that starts has to learn it anew."""
        if self._file is None:
            return
        known = [_Known(*way, width) for way, width in sorted(self.narrow.items())]
        with suppress(OSError):
            new = self._file.with_suffix(".new")
            new.write_bytes(msgspec.json.encode(known))
            new.rename(self._file)


class _Known(Value, frozen=True):
    local: str
    remote: str
    width: int


async def measured(local: str, remote: str, mtu: int) -> int | None:
    """The longest packet that is answered, of `mtu` bytes at most; None where nothing is answered at all.

    Takes a round trip; where packets are lost, up to half a minute, in no thread: an agent that ends waits for those.
    """
    try:
        own = echo.opened(local)
    except OSError:  # nothing has that address now
        return None
    with own:
        version = echo.version_of(local)
        own.setsockopt(*_DISCOVER[version], _PROBE)
        patience = _PATIENCE_S

        async def passes(size: int) -> bool:
            nonlocal patience
            for _ in range(_TRIES):
                began = time.monotonic()
                if await _is_answered(own, version, remote, size, patience):
                    took = time.monotonic() - began
                    patience = min(_PATIENCE_S, max(_LEAST_PATIENCE_S, _TIMES * took))
                    return True
            return False

        return await widest(mtu, _LEAST[version], passes)


async def widest(mtu: int, least: int, passes: Callable[[int], Awaitable[bool]]) -> int | None:
    """The most that passes, of `mtu` at most; None where not even `least` does: then it is not for the length.

    Lengths are even, as echo requests are made here.
    """
    low, high = least // 2, mtu // 2
    if low >= high or await passes(2 * high):
        return mtu
    if not await passes(2 * low):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if await passes(2 * middle):
            low = middle
        else:
            high = middle
    if await passes(mtu // 2 * 2):  # it was loss, not length
        return mtu
    return 2 * low


async def _is_answered(own: socket.socket, version: int, remote: str, size: int, patience: float) -> bool:
    """Whether a packet of that length comes back, in so many s."""
    secret, identifier = os.urandom(_SECRET), random.randrange(1 << 16)
    body = echo.request(version, identifier, 0, secret, bytes(size - _HEADERS[version] - _SECRET))
    with suppress(OSError):  # what came back of an earlier one; EMSGSIZE: it does not even leave
        own.sendto(body, (remote, 0))
    loop = asyncio.get_running_loop()
    with suppress(TimeoutError):
        async with asyncio.timeout(patience):
            while True:
                with suppress(OSError):  # what came back of an earlier one
                    answer = await loop.sock_recv(own, 256)
                    if echo.answered(answer, version, identifier, secret) is not None:
                        return True
                await asyncio.sleep(0)  # whatever others send, all else goes on
    return False
