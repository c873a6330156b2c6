"""What this process measured of its nodes' clocks since it started, and since its own clock was set.

Only that says whether its own can be right: what is in the database was measured by the clock of before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from math import isfinite

_SET_S = 60.0  # a clock that moved by so much against the monotonic one was set, or this machine slept
_FLIGHT_S = 30.0  # so long what was measured before that may have been on its way
_RECENT_S = 300.0  # each node that is connected is measured anew once a minute
_LONGEST_S = 600.0  # for which measurements are waited for: no node may ever come


class Clocks:
    """Filled by threads that hear nodes, asked by the one that ends slices."""

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float] = time.monotonic):
        self._clock, self._monotonic = clock, monotonic
        self._ahead = clock() - monotonic()
        self._since = self._counts_from = monotonic()
        self._measured: dict[str, tuple[float, float]] = {}  # node -> monotonic time, and by how much it was ahead

    def note(self, ahead: Mapping[str, float]) -> None:
        """The clocks of these are ahead of this one by so many seconds, as measured just now."""
        now = self._looked()
        self._measured.update({node: (now, s) for node, s in ahead.items() if isfinite(s)})

    def known(self) -> dict[str, float]:
        """By how much each is ahead; of those that were measured lately, and since this clock was set."""
        least = max(self._counts_from, self._looked() - _RECENT_S)
        return {node: ahead for node, (at, ahead) in dict(self._measured).items() if at >= least}

    def waits(self, connected: Collection[str]) -> bool:
        """Whether it is too early to believe this clock: of those that are connected most were not measured yet."""
        if self._looked() - self._since > _LONGEST_S:
            return False
        return 2 * len(self.known().keys() & set(connected)) <= len(connected)

    def _looked(self) -> float:
        """The monotonic time; what was measured before this clock was set counts no more."""
        now = self._monotonic()
        ahead = self._clock() - now
        if abs(ahead - self._ahead) > _SET_S:
            self._ahead, self._since, self._counts_from = ahead, now, now + _FLIGHT_S
        return now
