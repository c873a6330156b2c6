"""How far a node's clock is ahead of the central's, as well as it can be told from all that was measured lately."""

from __future__ import annotations

from collections import deque

from vini.bus import Offset
from vini.model import Value

KEPT = 8  # measurements, as NTP's clock filter keeps (RFC 5905, 10)
DRIFT = 5e-5  # how much two clocks may part in a second, s: crystals are good for less


class _Measured(Value, frozen=True):
    offset: Offset
    at: float  # s, monotonic

    def error(self, now: float) -> float:
        """By how much it may be wrong: all of the way may have been one direction's (RFC 5905, 8), and time went by."""
        return self.offset.rtt_s / 2 + DRIFT * (now - self.at)


class ClockFilter:
    """Of the last measurements the surest counts: what lay long on the way says little.

    One that can't be true together with those before shows that a clock was set, and they count no more.
    """

    def __init__(self) -> None:
        self._kept: deque[_Measured] = deque(maxlen=KEPT)

    def add(self, offset: Offset, at: float) -> Offset:
        """One more, measured at that monotonic time (s); the surest, its `rtt_s` twice its error by now."""
        error = offset.rtt_s / 2
        if any(abs(m.offset.ahead_s - offset.ahead_s) > m.error(at) + error for m in self._kept):
            self._kept.clear()
        self._kept.append(_Measured(offset, at))
        errors = [m.error(at) for m in self._kept]
        least = min(errors)
        return Offset(self._kept[errors.index(least)].offset.ahead_s, 2 * least)
