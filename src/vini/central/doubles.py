"""Notices that two machines have one node's identity, as where a disk was copied: each takes the other's place in turn.

One machine never does that: an agent that lost its connection, or was started anew, displaces no connection that
displaced its own.  They are told apart by their agents' process ids, which the two may have alike, seldom.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from vini.model import Value

QUIET_S = 120.0  # without the other one: it has gone


class _Displaced(Value, frozen=True):
    old: int  # process ids
    new: int
    at: float  # s, monotonic


class Doubles:
    """Of the nodes that are connected to one hub."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._last: dict[str, _Displaced] = {}

    def displaced(self, node: str, old: int, new: int) -> bool:
        """The agent `new` took the place of `old`, which was connected still; whether they are of two machines."""
        now = self._clock()
        last, self._last[node] = self._last.get(node), _Displaced(old, new, now)
        return last is not None and old != new and (last.new, last.old) == (old, new) and now - last.at < QUIET_S


def sentence(one: str, other: str) -> str:
    """For whoever administers the testbed; the addresses that they come from."""
    where = f"{one} and {other}" if one != other else f"both from {one}"
    return (
        f"two machines are this node in turn ({where}): was its disk copied?  `vini node leave` on the one that is not "
        "it; that one may then join under a name of its own."
    )
