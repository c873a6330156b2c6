"""Looks once a minute at what slivers use, and tells it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby

from vini import bus
from vini.boot import boot, boottime
from vini.model import Gretap, SliceSpec, Tunnel, Value, Veth, VethEnd, Vxlan, VxlanXdp, is_sliver
from vini.node.place import Place
from vini.node.usage import book, look
from vini.node.usage.book import Book, Day, Now
from vini.node.usage.look import Vif
from vini.usage import DAY_S, Look, SliceUse, Use, plus

log = logging.getLogger("vini.agent")
_PERIOD_S = 60.0
_LOT = 500  # slivers in an answer, or one slice where that has more
_TUNNELS = (Vxlan, VxlanXdp, Gretap)
_NUMBER = (1 << 24) - 1
HERE = "here"


class Metered(Value, frozen=True):
    """What has to be known of a sliver to look at what it uses."""

    whose: str  # HERE, or the central that asked for it
    tunnels: frozenset[Vif] = frozenset()  # to other nodes: those in its network, and what it has beyond its reach


def metered(spec: SliceSpec, whose: str) -> dict[str, Metered]:
    """Those of a slice, by `slice.sliver`."""
    tunnels: dict[str, set[Vif]] = {ns: set() for o in spec.objects for ns in o.slivers if is_sliver(ns)}
    pairs = [o.ends for o in spec.objects if isinstance(o, Veth)]
    led_by = {_led_to(far): near for a, b in pairs for near, far in ((a, b), (b, a)) if not is_sliver(far.ns)}
    for o in spec.objects:
        if isinstance(o, _TUNNELS):
            end = o if is_sliver(o.ns) else led_by.get(_led_to(o))  # a container's is beyond its reach
            if end:
                tunnels[end.ns].add((o.ns, o.dev))
    return {ns: Metered(whose, frozenset(there)) for ns, there in tunnels.items()}


def _led_to(end: VethEnd | Tunnel) -> tuple[str, int]:
    """What a tunnel beyond a container's reach and the end of what leads to it have in common: where they are, and the
    number in their indexes, of which agents before this one had other bits set."""
    return end.ns, end.index & _NUMBER


class Meter:
    """One place's.  Any thread may use it; one at a time does."""

    def __init__(
        self, place: Place, clock: Callable[[], float] = time.time,
        looked: Callable[[look.Tunnels], Mapping[str, Look]] | None = None,
    ):  # fmt: skip
        self._place, self._clock = place, clock
        self._look = looked or (lambda tunnels: look.look(place, tunnels))
        self._book: Book | None = None
        self._lock = threading.Lock()
        self._unwritten = ""  # why what was used could not be written down, as the log was told

    async def run(self, slivers: Callable[[], Mapping[str, Metered]]) -> None:
        """Until cancelled."""
        while True:
            await asyncio.to_thread(self.look, slivers())
            await asyncio.sleep(_PERIOD_S)

    def look(self, slivers: Mapping[str, Metered], *, parting: bool = False) -> None:
        """Count what these used since the look before.  A full disk stops nobody: the kernel counts on, and the next
        look that can be written down tells as much.  `parting`: nobody waits for a disk; the next look writes it."""
        with self._lock:
            if self._book is None:
                self._book = Book(self._place.state)
            try:
                self._count(self._book, slivers, parting)
            except OSError as e:
                if str(e) != self._unwritten:
                    log.warning("What slivers used can't be written down: %s; it is tried again every minute.", e)
                self._unwritten = str(e)
                return
            self._unwritten = ""

    def _count(self, held: Book, slivers: Mapping[str, Metered], parting: bool) -> None:
        seen = self._look({ns: one.tunnels for ns, one in slivers.items()})
        now = Now(boot(), boottime(), int(self._clock()) // DAY_S)
        before = held.turn(now.day)
        there = {ns for ns in before.known if self._place.pin(ns).exists()}
        whose = {ns: one.whose for ns, one in slivers.items()}
        made = book.after(before, seen, whose, there, now)
        if parting and made.day == held.now.day:
            held.hold(made)
        else:
            held.write(made)

    def told(self, asked: bus.AskUsage, whose: str | None) -> bus.Usage:
        """What is in the book, from that day and slice on; `whose`: only what was used by who asked so, None: all."""
        with self._lock:
            held = self._book = self._book or Book(self._place.state)
            rows: list[SliceUse] = []
            slivers = 0
            for row in _rows(held.days(asked.day), whose):
                if (row.day, row.slice) <= (asked.day, asked.after):
                    continue
                if slivers and slivers + len(row.slivers) > _LOT:
                    return bus.Usage(tuple(rows), more=True)
                rows.append(row)
                slivers += len(row.slivers)
            return bus.Usage(tuple(rows))


def _rows(days: Iterator[Day], whose: str | None) -> Iterator[SliceUse]:
    for day in days:
        of: dict[str, Use] = {}
        for who, uses in day.uses.items():
            if whose in (None, who):
                of |= {ns: plus(of.get(ns, Use()), use) for ns, use in uses.items()}  # one name after the other
        for slice_, some in groupby(sorted(of, key=_parts), key=lambda ns: _parts(ns)[0]):
            yield SliceUse(day.day, slice_, {_parts(ns)[1]: of[ns] for ns in some}, day.book)


def _parts(ns: str) -> tuple[str, str]:
    slice_, _, sliver = ns.partition(".")
    return slice_, sliver
