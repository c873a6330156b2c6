"""The course of a trace: when bytes get through a link that follows it, with which delay, and how likely.  Pure.

It is computed by another way than the link element's (positions on one cumulative axis, instead of turns), so that
a mistake in one is not hidden by the same one in the other.  Times are nanoseconds since the trace began.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

from vini.model import Impairment, Value
from vini.text import trace
from vini.text.trace import OPPORTUNITY_BITS, Step, Trace

NO_LIMIT = math.inf  # Mbit/s
_MS = 1_000_000
_OPPORTUNITY = OPPORTUNITY_BITS // 8  # bytes
_WINDOW_MS = 100.0  # over which the fastest moment counts; a queue evens out what is shorter
_MOST_WINDOWS = 10_000


class Course(Protocol):
    """Where bytes are on the way through: a position never goes back, and its unit is the implementation's own."""

    def at(self, now: float) -> float:
        """The position of bytes that come then, where none are ahead of them."""

    def turn(self, position: float) -> float:
        """When the first byte from there on goes; inf: never."""

    def after(self, position: float, size: int) -> float:
        """That of so many bytes later."""

    def when(self, position: float) -> float:
        """When all bytes up to there have left; inf: never."""

    def bits_between(self, first: float, last: float) -> float:
        """What gets through between these two times; inf where nothing limits it."""

    def delay_ms(self, now: float, /) -> float:
        """Of a packet whose last bit leaves then."""

    def loss(self, now: float, /) -> float:
        """The probability that a packet which comes then is lost by it."""


class Opportunities:
    """Positions are bytes: each opportunity carries the next 1500; one that nobody is there for is skipped."""

    def __init__(self, asked: Impairment, followed: Trace):
        self._asked = asked
        self._ns = [ms * _MS for ms in followed.opportunities_ms]
        self._period = self._ns[-1]

    def at(self, now: float) -> float:
        """See Course."""
        return _OPPORTUNITY * self._passed(now)

    def turn(self, position: float) -> float:
        """See Course."""
        return self.when(position + 1)

    def after(self, position: float, size: int) -> float:
        """See Course."""
        return position + size

    def when(self, position: float) -> float:
        """See Course."""
        cycle, place = divmod(max(0, math.ceil(position / _OPPORTUNITY) - 1), len(self._ns))
        return cycle * self._period + self._ns[place]

    def bits_between(self, first: float, last: float) -> float:
        """See Course."""
        return OPPORTUNITY_BITS * (self._passed(last) - self._passed(first))

    def delay_ms(self, _now: float) -> float:
        """See Course."""
        return self._asked.delay_ms

    def loss(self, _now: float) -> float:
        """See Course."""
        return self._asked.loss

    def _passed(self, now: float) -> int:
        cycle, phase = divmod(max(0.0, now), self._period)
        return int(cycle) * len(self._ns) + bisect_right(self._ns, phase)


class Steps:
    """Positions are times: nothing is carried over."""

    def __init__(self, asked: Impairment, followed: Trace):
        self._asked = asked
        self._period = followed.period_ms * _MS or math.inf
        first = [] if followed.steps[0].at_ms == 0 else [Step(0.0)]
        self._rows = [*first, *followed.steps]
        self._ns = [row.at_ms * _MS for row in self._rows]
        self._gives = self.bits_between(0.0, self._period) if followed.period_ms else math.inf

    def at(self, now: float) -> float:
        """See Course."""
        return now

    def turn(self, position: float) -> float:
        """See Course."""
        for _ in range(len(self._rows) + 1):
            row, ends = self._row(position)
            if self._mbit(row):
                return position
            position = ends
        return math.inf

    def after(self, position: float, size: int) -> float:
        """See Course."""
        bits = 8.0 * size
        if (periods := math.ceil(bits / self._gives) - 1) > 0:  # as many of them as are used up for it
            position, bits = position + periods * self._period, bits - periods * self._gives
        while (position := self.turn(position)) < math.inf:
            row, ends = self._row(position)
            mbit = self._mbit(row)
            takes = bits * 1000 / mbit
            if takes <= ends - position:
                return position + takes
            bits -= (ends - position) * mbit / 1000
            position = ends
        return math.inf

    def when(self, position: float) -> float:
        """See Course."""
        return position

    def bits_between(self, first: float, last: float) -> float:
        """See Course."""
        bits = 0.0
        while first < last:
            row, ends = self._row(first)
            bits += (min(ends, last) - first) * self._mbit(row) / 1000
            first = ends
        return bits

    def delay_ms(self, now: float) -> float:
        """See Course."""
        own = self._row(now)[0].delay_ms
        return self._asked.delay_ms if own is None else own

    def loss(self, now: float) -> float:
        """See Course."""
        own = self._row(now)[0].loss
        return self._asked.loss if own is None else own

    def _mbit(self, row: Step) -> float:
        own = self._asked.rate_mbit or NO_LIMIT
        return own if row.rate_mbit is None else row.rate_mbit

    def _row(self, now: float) -> tuple[Step, float]:
        """What holds then, and until when."""
        begins = now // self._period * self._period if self._period < math.inf else 0.0
        i = bisect_right(self._ns, now - begins)
        ends = self._ns[i] if i < len(self._ns) else self._period
        return self._rows[i - 1], begins + ends


def course(asked: Impairment) -> Course:
    """Of the trace that it holds."""
    followed = trace.parse(asked.trace)
    return Opportunities(asked, followed) if followed.opportunities_ms else Steps(asked, followed)


class Speed(Value, frozen=True):
    """What a link gives over time, Mbit/s."""

    most: float  # in a tenth of a second; inf: at some time nothing limits it; 0: nothing ever does
    mean: float
    longest_ms: float  # without anything


@lru_cache(maxsize=64)
def speed(asked: Impairment) -> Speed:
    """Of the trace that it holds: over one period, or up to its last row."""
    followed, of = trace.parse(asked.trace), course(asked)
    if not followed.opportunities_ms and "rate_mbit" not in followed.gives and not asked.rate_mbit:
        return Speed(0.0, 0.0, 0.0)
    lasts_ms = max(_WINDOW_MS, followed.length_ms + (0.0 if followed.repeats else _WINDOW_MS))
    windows = min(_MOST_WINDOWS, math.ceil(lasts_ms / _WINDOW_MS))
    edges = [i * lasts_ms / windows * _MS for i in range(windows + 1)]
    bits = [of.bits_between(a, b) for a, b in pairwise(edges)]
    each_s = lasts_ms / windows / 1000
    return Speed(max(bits) / each_s / 1e6, sum(bits) / lasts_ms / 1000, _longest_ms(followed, of))


def _longest_ms(followed: Trace, of: Course) -> float:
    if times := followed.opportunities_ms:
        return max(b - a for a, b in pairwise((0, *times)))
    both = zip((None, *followed.steps), followed.steps, strict=False)
    outages = [s.at_ms for before, s in both if s.rate_mbit == 0 and not (before and before.rate_mbit == 0)]
    ends = [(at, of.turn(at * _MS) / _MS) for at in outages]
    return max((end - at for at, end in ends if end < math.inf), default=0.0)
