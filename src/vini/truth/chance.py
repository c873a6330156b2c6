"""What chance alone may do to a sample: confidence intervals, and the distance between distributions.  Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

_TINY = 1e-300


def share_interval(hits: int, of: int, alpha: float) -> tuple[float, float]:
    """The probabilities that `hits` out of `of` don't speak against: Clopper and Pearson's exact interval."""
    low = 0.0 if hits == 0 else _beta_quantile(alpha / 2, hits, of - hits + 1)
    high = 1.0 if hits == of else _beta_quantile(1 - alpha / 2, hits + 1, of - hits)
    return low, high


def quantile(ordered: Sequence[float], share: float) -> float:
    """Of a sorted sample; the value at that place, none between two."""
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


def distance(sample: Sequence[float], cdf: Callable[[float], float], early: float, late: float) -> float:
    """Kolmogorov and Smirnov's distance of a sample from `cdf`, where each value may be wrong by -early..+late.

    With 0 for both it is the distance itself.
    """
    ordered, n = sorted(sample), len(sample)
    too_much = max((i + 1) / n - cdf(x + early) for i, x in enumerate(ordered))
    too_little = max(cdf(x - late) - i / n for i, x in enumerate(ordered))
    return max(0.0, too_much, too_little)


def uniform_distance(lows: Sequence[float], highs: Sequence[float]) -> float:
    """Kolmogorov and Smirnov's distance from the uniform distribution in 0..1 of values known to be between these."""
    n = len(lows)
    too_much = max((i + 1) / n - x for i, x in enumerate(sorted(highs)))
    too_little = max(x - i / n for i, x in enumerate(sorted(lows)))
    return max(0.0, too_much, too_little)


def most_distance(n: int, alpha: float) -> float:
    """The distance that a sample of n exceeds with probability alpha, if it is of that distribution (Stephens 1970)."""
    root = math.sqrt(n)
    return math.sqrt(-math.log(alpha / 2) / 2) / (root + 0.12 + 0.11 / root)


def _beta_quantile(share: float, a: float, b: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _beta_cdf(middle, a, b) < share else (low, middle)
    return (low + high) / 2


def _beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function (DLMF 8.17; its continued fraction 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_cdf(1 - x, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(front) * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    """Lentz's method, to 12 digits."""
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 2000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        change = 0.0
        for step in (even, odd):
            d, c = 1 / _away(1 + step * d), _away(1 + step / c)
            change = c * d
            value *= change
        if abs(change - 1) < 1e-12:
            break
    return value


def _away(x: float) -> float:
    return x if abs(x) > _TINY else _TINY
