"""What the link element tells of a direction beside its packets: where its count stands, and when its trace began.

Where packets are lost by their numbers, the count is moved for a measurement, and put back afterwards: so that a short
one meets the listed numbers, wherever they are, and that packets of others have the numbers that they would have had
without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Protocol

from vini.dataplane.element import Element, real_ns
from vini.model import DriverError, Value
from vini.truth.direction import Direction

SAME_NS = 1_000_000  # two looks at two clocks differ by less
LEAD = 10  # of our packets pass before the first that is listed
Where = Callable[[str], Path]  # sliver -> its network namespace


class Numbered(Value, frozen=True):
    """Which numbers our packets have: they begin after `counted`, with so many of others somewhere among them."""

    counted: int
    others: int = 0


class Lapses(Value, frozen=True):
    """What the link element says that it did too late itself, of the packets of one direction meanwhile."""

    packets: int = 0  # that it sent
    late: int = 0  # sent more than 1 ms late
    stalled: int = 0  # read late, and taken to have come evenly until then: of those some leave too early

    @property
    def share(self) -> float:
        """Of the packets, at most."""
        return min(1.0, (self.late + self.stalled) / max(1, self.packets))

    def hiding(self, most: float, noise: float, why: str) -> tuple[float, str]:
        """What noise may add to a value, and why: without a bound where their share is above `most`."""
        if self.share <= most:
            return noise, why
        return inf, (
            f"the link element was kept from running: of {self.packets} packets it sent {self.late} more than 1 ms "
            f"late and read {self.stalled} late."
        )


class Told(Value, frozen=True):
    """What is said of one direction at one moment."""

    began_ns: int | None = None  # CLOCK_REALTIME when it began with its trace; 0: it has none; None: that isn't told
    lapses: Lapses = Lapses()  # so far


class Counter(Protocol):
    """Who counts packets for a list of numbers, and follows a trace.  Raises OSError or DriverError where it can't
    tell."""

    def counted(self, d: Direction) -> int:
        """How many packets have been counted so far."""

    def count_from(self, d: Direction, counted: int) -> None:
        """So many have been: the next one has the number after it."""

    def told(self, all_: Sequence[Direction]) -> list[Told]:
        """What it says of each now."""


class ByElement:
    """The link element of one place; only it can lose packets by number, and follow a trace."""

    def __init__(self, run: Path, where: Where):
        self._run, self._where = run, where

    def counted(self, d: Direction) -> int:
        """See Counter."""
        with Element(self._run) as element:
            stats = element.stats().get(self._port(d), {})
        if "counted" not in stats:
            raise DriverError(f"The link element does not tell what it counts from {d.source} to {d.destination}.")
        return stats["counted"]

    def told(self, all_: Sequence[Direction]) -> list[Told]:
        """See Counter."""
        with Element(self._run) as element:
            stats = element.stats()
        return [_told(stats.get(self._port(d), {"began": 0})) for d in all_]

    def count_from(self, d: Direction, counted: int) -> None:
        """See Counter."""
        with Element(self._run) as element:
            element.count_from(self._port(d), counted)

    def _port(self, d: Direction) -> tuple[str, str]:
        return self._where(d.source).name, d.vif


def _told(port: Mapping[str, int]) -> Told:
    ns = port.get("began")
    lapses = Lapses(*(port.get(name, 0) for name in ("sent", "late", "stalled")))
    return Told(ns and real_ns(ns), lapses)


class Counts:
    """Of all directions of one measurement, from before its first packet to after its last."""

    def __init__(self, all_: Sequence[Direction], counter: Counter | None):
        self._counter = counter
        self._all = all_
        self._was: dict[int, tuple[int, int]] = {}  # place in the list -> counted before, and moved to

    def begin(self) -> None:
        """Where each list begins, ours begin too."""
        for i, d in enumerate(self._all):
            if self._counter and d.asked.lose:
                at = max(0, d.asked.lose[0][0] - 1 - LEAD)
                with suppress(OSError, DriverError):
                    was = self._counter.counted(d)
                    self._counter.count_from(d, at)
                    self._was[i] = (was, at)

    def end(self, sent: Sequence[int]) -> list[Numbered | None]:
        """As if the so many packets that each direction sent had not been; None where nobody counts."""
        out: list[Numbered | None] = [None] * len(self._all)
        for i, (was, at) in self._was.items():
            assert self._counter
            with suppress(OSError, DriverError):
                others = max(0, self._counter.counted(self._all[i]) - at - sent[i])
                self._counter.count_from(self._all[i], was + others)
                out[i] = Numbered(at, others)
        self._was.clear()
        return out


class Asked:
    """What is told of directions beside their packets: asked before the first packet and after the last."""

    def __init__(self, all_: Sequence[Direction], counter: Counter | None):
        self._all, self._counter = all_, counter
        self._before = self._ask()

    def end(self) -> list[Told]:
        """When each began with its trace (see `began_once`), and the lapses in between."""
        both = zip(self._before, self._ask(), strict=True)
        return [Told(began_once(was.began_ns, now.began_ns), between(was.lapses, now.lapses)) for was, now in both]

    def _ask(self) -> list[Told]:
        if self._counter:
            with suppress(OSError, DriverError):
                return self._counter.told(self._all)
        return [Told()] * len(self._all)


def between(was: Lapses, now: Lapses) -> Lapses:
    """Of the time from one moment to a later one; counts that are less than they were began anew, at 0."""
    anew = now.packets < was.packets or now.late < was.late or now.stalled < was.stalled
    return now if anew else Lapses(now.packets - was.packets, now.late - was.late, now.stalled - was.stalled)


def began_once(was_ns: int | None, now_ns: int | None) -> int | None:
    """0 where both times there was no trace; None where nobody tells, or it began anew meanwhile."""
    if was_ns is None or now_ns is None or abs(now_ns - was_ns) > SAME_NS:
        return None
    return now_ns
