"""What an Impairment means for the packets of one direction: when they should come, and how many.  Pure."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from statistics import NormalDist

from msgspec.structs import replace

from vini.model import BurstLoss, Impairment

Cdf = Callable[[float], float]
_PARETO_ALPHA = 3.0  # as in netem's table: mean 3/2 and deviation sqrt(3)/2 before it is moved to 0 and scaled to 1


def does_anything(i: Impairment) -> bool:
    """Whether there is something to measure; a queue alone does nothing."""
    return replace(i, queue_packets=0, queue_bytes=0, queue_ms=0.0, aqm="") != Impairment(queue_packets=0)


def is_spread(i: Impairment) -> bool:
    """Whether packets have different delays on purpose."""
    return bool(i.jitter_ms or i.jitter_table_ms)


def frame_s(i: Impairment, frame_bytes: int) -> float:
    """How long a frame is on the wire; 0 without a rate."""
    return frame_bytes * 8 / (i.rate_mbit * 1e6) if i.rate_mbit else 0.0


def delay_cdf(i: Impairment) -> Cdf:
    """P(delay <= x ms) of a packet that nothing holds up; of a spread delay only."""
    if i.jitter_table_ms:
        table = _table_cdf(i.jitter_table_ms)
        return lambda x: table(x - i.delay_ms) if x >= 0 else 0.0
    unit = {"normal": NormalDist().cdf, "uniform": _uniform_cdf, "pareto": _pareto_cdf}[i.distribution]
    return lambda x: unit((x - i.delay_ms) / i.jitter_ms) if x >= 0 else 0.0  # cut at 0


def delay_quantile_ms(i: Impairment, share: float) -> float:
    """The delay that this share of packets doesn't exceed, to a microsecond."""
    if not is_spread(i):
        return i.delay_ms
    cdf, low = delay_cdf(i), 0.0
    high = i.delay_ms + 64 * i.jitter_ms + max(i.jitter_table_ms, default=0.0)
    while high - low > 0.001:
        middle = (low + high) / 2
        low, high = (low, middle) if cdf(middle) >= share else (middle, high)
    return high


def spacing_ms(i: Impairment) -> float:
    """So far apart, packets don't hold each other up, but for one in some hundred."""
    return delay_quantile_ms(i, 0.995) - delay_quantile_ms(i, 0.0001) if is_spread(i) else 0.0


def listed(i: Impairment) -> Callable[[int, int], int]:
    """How many of the packets with numbers from one to another, both included, are to be lost by number."""
    firsts, before = [], [0]
    for first, last in i.lose:
        firsts.append(first)
        before.append(before[-1] + last - first + 1)

    def up_to(number: int) -> int:
        ranges = bisect_right(firsts, number)
        return before[ranges] - max(0, i.lose[ranges - 1][1] - number) if ranges else 0

    return lambda first, last: up_to(last) - up_to(first - 1)


def mean_loss(i: Impairment) -> float:
    """The share of packets that are lost in the long run, by both of its causes."""
    return 1 - (1 - i.loss) * (1 - _mean_of_states(i.burst_loss))


def loss_deviation(i: Impairment, packets: int) -> float:
    """Standard deviation of the share lost among so many packets; bursts make it wider than it is without."""
    p, b = mean_loss(i), i.burst_loss
    following = _covariance(i, b) * _memory(b) / (1 - _memory(b)) if b and _memory(b) < 1 else 0.0
    return math.sqrt(max(0.0, p * (1 - p) + 2 * following) / packets)


def mean_burst(i: Impairment) -> float:
    """Packets lost in a row, on average."""
    p, b = mean_loss(i), i.burst_loss
    both = p * p + (_covariance(i, b) * _memory(b) if b else 0.0)
    return p / (p - both) if p > both else math.inf


def _share_bad(b: BurstLoss) -> float:
    return b.enter / (b.enter + b.leave) if b.enter else 0.0


def _mean_of_states(b: BurstLoss | None) -> float:
    return _share_bad(b) * b.bad + (1 - _share_bad(b)) * b.good if b else 0.0


def _memory(b: BurstLoss) -> float:
    """How much of a packet's state is left at the next one: the chain's second eigenvalue."""
    return 1 - b.enter - b.leave


def _covariance(i: Impairment, b: BurstLoss) -> float:
    """Of the losses of two packets that meet the same state."""
    share = _share_bad(b)
    return ((1 - i.loss) * (b.bad - b.good)) ** 2 * share * (1 - share)


def _uniform_cdf(z: float) -> float:
    return min(1.0, max(0.0, (z + 1) / 2))


def _pareto_cdf(z: float) -> float:
    x = z * math.sqrt(3) / 2 + 1.5
    return 1 - x**-_PARETO_ALPHA if x > 1 else 0.0


def _table_cdf(quantiles: tuple[float, ...]) -> Cdf:
    """The inverse of linear interpolation between equally likely quantiles."""
    ordered = tuple(sorted(quantiles))
    steps = len(ordered) - 1

    def cdf(x: float) -> float:
        i = bisect_right(ordered, x)
        if i == 0 or i > steps:
            return float(i > steps)
        return (i - 1 + (x - ordered[i - 1]) / (ordered[i] - ordered[i - 1])) / steps

    return cdf
