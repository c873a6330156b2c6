"""Links whose ends are on two machines: what can be told of them by two clocks.  Pure.

The clocks' difference is not known as well as a delay is to be judged, so it is taken from the packets themselves: it
is assumed that both directions are off by the same time from what was asked of each.  What they are off by together
is measured, by each machine's own clock at both ends of the round trip; that each has half of it is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from vini.model import Impairment, Value
from vini.truth.chance import quantile
from vini.truth.meaning import delay_quantile_ms, is_spread
from vini.truth.seen import Clock, Frame, Noise, passages
from vini.truth.verdict import Verdict, unknown

FEW = 20  # with fewer packets in a direction, nothing is said about the clocks
SURE = 4.0  # standard deviations
_ONE_WAY = "By two clocks only a round trip tells a delay, and too little came back."
_BY_DELAY = ("delay", "queue")  # the wishes that are judged by a packet's own delay


class Aligned(Value, frozen=True):
    """A direction with its times of arrival by the sender's clock, as far as that can be told."""

    frames: tuple[Frame, ...]
    clock: Clock
    unsure_ms: float = 0.0  # how far jitter may have put the clocks apart that are not


def aligned(there: tuple[Impairment, Sequence[Frame]], back: tuple[Impairment, Sequence[Frame]] | None) -> Aligned:
    """A direction, by what came back in the other one."""
    late, other = _late(*there), _late(*back) if back else None
    if late is None or other is None:
        return Aligned(_shifted(there[1], late.median_ms if late else 0.0), "none")
    ahead_ms = (late.median_ms - other.median_ms) / 2
    return Aligned(_shifted(there[1], ahead_ms), "round trip", (late.unsure_ms + other.unsure_ms) / 2)


def both(sender: Noise, receiver: Noise) -> Noise:
    """What two machines may have done to packets that one sent and the other received."""
    return Noise(
        sender.median_ms + receiver.median_ms,
        sender.p99_ms + receiver.p99_ms,
        sender.lost + receiver.lost,
        max(sender.step_ms, receiver.step_ms, key=abs),
        sender.overrun or receiver.overrun,
    )


def by_their_sum(verdicts: Sequence[Verdict], clock: Clock) -> tuple[Verdict, ...]:
    """The verdicts, where a direction's times are by such clocks."""
    if clock == "none":
        return tuple(_unknown(v) if v.wish.startswith(_BY_DELAY) else v for v in verdicts)
    return tuple(verdicts)


def _unknown(v: Verdict) -> Verdict:
    return v if v.outcome == "not measured" else unknown(v.wish, v.asked, _ONE_WAY, "can't tell")


class _Late(Value, frozen=True):
    median_ms: float
    unsure_ms: float


def _late(asked: Impairment, seen: Sequence[Frame]) -> _Late | None:
    """By how much packets without load came later than they should, the clocks' difference included."""
    if asked.trace:
        return None
    found = sorted(p.delay_ms for p in passages(asked, seen) if p.frame.phase == "idle")
    if len(found) < FEW:
        return None
    half = SURE / 2 / math.sqrt(len(found))  # of the median's interval, in shares: a binomial's ranks
    low, middle, high = (quantile(found, 0.5 + x) for x in (-half, 0.0, half))
    return _Late(middle - delay_quantile_ms(asked, 0.5), max(high - middle, middle - low) if is_spread(asked) else 0.0)


def _shifted(seen: Sequence[Frame], by_ms: float) -> tuple[Frame, ...]:
    by_ns = round(by_ms * 1e6)
    return tuple(f if f.arrived_ns is None else f._replace(arrived_ns=f.arrived_ns - by_ns) for f in seen)
