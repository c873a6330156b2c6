"""The book of what slivers used: a file for each day that is over, and one for the day that is, in which stands what
the kernel's counters said last.  So whatever ends the agent, what was written is counted, and nothing else is.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec.structs import replace

from vini import durable, usage
from vini.model import Value
from vini.usage import Counters, Look, Use

KEPT = 32  # days
_LONGEST_S = 120  # between two looks of which the second tells how much memory there was meanwhile
Uses = Mapping[str, Mapping[str, Use]]  # who asked for it -> `slice.sliver` -> what it used


class Known(Value, frozen=True):
    """What the counters of one sliver said."""

    counters: Counters
    at: float  # s since the machine's start


class Day(Value, frozen=True):
    """All that one file has."""

    book: str  # another one when a lost book was begun anew, so that nobody takes its little for all that there was
    boot: str
    day: int  # of UTC, since 1970
    uses: Uses = {}
    known: Mapping[str, Known] = {}
    blank: bool = False  # a new book: what slivers used before it nobody knows


class Now(Value, frozen=True):
    """When a look is."""

    boot: str
    at: float  # s since the machine's start
    day: int


def after(day: Day, seen: Mapping[str, Look], whose: Mapping[str, str], there: Collection[str], now: Now) -> Day:
    """The book after another look, on the same day or a later one; `there`: all slivers that have not gone."""
    known = day.known if day.boot == now.boot else {}
    uses = {who: dict(of) for who, of in day.uses.items()}
    for ns, look in seen.items():
        old = known.get(ns)
        seconds = round(now.at) - round(old.at) if old else 0
        new = usage.since(old.counters if old else None if day.blank else {}, look, max(0, min(_LONGEST_S, seconds)))
        of = uses.setdefault(whose[ns], {})
        of[ns] = usage.plus(of.get(ns, Use()), new)
    kept = {ns: one for ns, one in known.items() if ns in there and ns not in seen}
    kept |= {ns: Known(_kept(known.get(ns), look), now.at) for ns, look in seen.items()}
    return Day(day.book, now.boot, now.day, uses, kept)


def _kept(old: Known | None, look: Look) -> Counters:
    """What could not be read now is known as it was: else it would be counted once more."""
    kinds = {_kind(source) for source in look.counters}
    before = old.counters if old else {}
    return {s: n for s, n in before.items() if _kind(s) not in kinds} | dict(look.counters)


def _kind(source: str) -> str:
    return source.partition(" ")[0]


class Book:
    """That of one place, on disk.  Whoever has read it anew goes on where the one before was killed."""

    def __init__(self, state: Path):
        self._directory = state / "usage"
        self.now = self._written = self._read("now") or Day(os.urandom(8).hex(), "", 0, blank=True)

    def turn(self, day: int) -> Day:
        """The book as it is, opened at this day.  OSError where the day that is over can't be written down."""
        if self.now.day == day:
            return self.now
        if self.now.uses:
            self._write(str(self.now.day), replace(self.now, known={}))
        before = self._read(str(day))  # a clock that was set back
        return replace(self.now, day=day, uses=before.uses if before else {})

    def write(self, now: Day) -> None:
        """It is so from now on.  OSError where the disk doesn't take it: then it is as it was."""
        if replace(now, known={}) != replace(self._written, known={}) or now.known.keys() != self._written.known.keys():
            self._write("now", now)
            if now.day != self._written.day:
                self._forget(now.day)
            self._written = now
        self.now = now

    def hold(self, now: Day) -> None:
        """The same, but a kill before the next `write` takes it back."""
        self.now = now

    def days(self, first: int) -> Iterator[Day]:
        """From that one on."""
        for day in sorted(self._days()):
            if first <= day < self.now.day and (found := self._read(str(day))):
                yield found
        if self.now.day >= first:
            yield self.now

    def _days(self) -> list[int]:
        with suppress(FileNotFoundError):
            return [int(p.stem) for p in self._directory.glob("*.json") if p.stem.isdigit()]
        return []

    def _forget(self, today: int) -> None:
        """All but the newest; and of what lies far in the future, as all does for a clock that is far behind, too."""
        days = sorted(self._days())
        for some in ([d for d in days if d <= today + KEPT], [d for d in days if d > today + KEPT]):
            for day in some[:-KEPT]:
                (self._directory / f"{day}.json").unlink(missing_ok=True)

    def _read(self, name: str) -> Day | None:
        """None where there is none, or none that can be read."""
        with suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode((self._directory / f"{name}.json").read_bytes(), type=Day)
        return None

    def _write(self, name: str, day: Day) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        durable.write(self._directory / f"{name}.json", msgspec.json.encode(day))
