"""Clocks of other machines, as seen from this one."""

from __future__ import annotations

import time
from collections.abc import Callable

from vini.bus import Clock
from vini.model import Value

_TRIES = 5  # of which the quickest counts (RFC 5905, 10)


class Ahead(Value, frozen=True):
    """How far a clock is ahead of this machine's, and by how much that may be wrong; s."""

    ahead_s: float = 0.0
    error_s: float = 0.0

    def plus(self, ahead_s: float, error_s: float) -> Ahead:
        """That of a clock that is so far ahead of this one."""
        return Ahead(self.ahead_s + ahead_s, self.error_s + error_s)


class NodeClock(Value, frozen=True):
    """A node of a slice."""

    slivers: tuple[str, ...]  # that it has, by name
    clock: Ahead


def measured(ask: Callable[[], Clock]) -> Ahead:
    """The clock that is asked, by four moments each time (RFC 5905, 8)."""
    return min((_once(ask) for _ in range(_TRIES)), key=lambda a: a.error_s)


def _once(ask: Callable[[], Clock]) -> Ahead:
    started, began = time.time(), time.monotonic()
    there = ask()
    took = time.monotonic() - began
    ahead = (there.received + there.answered) / 2 - (started + took / 2)
    return Ahead(ahead, max(0.0, took - (there.answered - there.received)) / 2)
