"""Statistics of series: pure, over plain numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Row = dict[str, Any]  # one line of a probe's table; every probe's rows have "t", seconds since t = 0


def quantile(values: Iterable[float], q: float) -> float | None:
    """The q-quantile (0..1) by linear interpolation (Hyndman & Fan type 7, as numpy); None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    at = q * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def median(values: Iterable[float]) -> float | None:
    """The middle value; None of nothing."""
    return quantile(values, 0.5)


def mean(values: Sequence[float]) -> float | None:
    """The arithmetic mean; None of nothing."""
    return sum(values) / len(values) if values else None


def spread(values: Sequence[float], unit: str) -> dict[str, float | None]:
    """Minimum, median, mean, 95th and 99th percentile and maximum, named `<what>_<unit>`; None of nothing."""
    return {
        f"min_{unit}": rounded(min(values, default=None)),
        f"median_{unit}": rounded(median(values)),
        f"mean_{unit}": rounded(mean(values)),
        f"p95_{unit}": rounded(quantile(values, 0.95)),
        f"p99_{unit}": rounded(quantile(values, 0.99)),
        f"max_{unit}": rounded(max(values, default=None)),
    }


def rounded(value: float | None, digits: int = 4) -> float | None:
    """For people's eyes: a tenth of a microsecond, where the unit is ms."""
    return None if value is None else round(value, digits)


def jitter(transits: Iterable[float]) -> float:
    """Interarrival jitter of RFC 3550, section 6.4.1, of arrival minus sending times, in arrival order."""
    estimate, last = 0.0, None
    for transit in transits:
        if last is not None:
            estimate += (abs(transit - last) - estimate) / 16
        last = transit
    return estimate


def longest_gap(arrivals: Sequence[float], start: float | None = None, end: float | None = None) -> tuple[float, float]:
    """(length, beginning) of the longest time without an arrival; `start` and `end` count as arrivals where given."""
    times = sorted(arrivals)
    times = ([start] if start is not None else []) + times + ([end] if end is not None else [])
    gaps = [(b - a, a) for a, b in zip(times, times[1:], strict=False)]
    return max(gaps, default=(0.0, 0.0))


def outages(rows: Iterable[Row], arrived: str) -> list[tuple[float, float, int]]:
    """Runs of lost probes: (sending time of the first lost, of the next that arrived or of the last lost, how many)."""
    found: list[tuple[float, float, int]] = []
    first: float | None = None
    last, count = 0.0, 0
    for row in sorted(rows, key=lambda r: r["t"]):
        if row[arrived] is None or row[arrived] is False:
            first, last, count = (row["t"] if first is None else first), row["t"], count + 1
        elif first is not None:
            found.append((first, row["t"], count))
            first, count = None, 0
    if first is not None:
        found.append((first, last, count))
    return found


def within(rows: Sequence[Row], from_s: float, to_s: float, took: str) -> list[Row]:
    """The rows whose flight lies wholly between two times.

    `took` is the column of a flight's duration in ms.  When and where a lost one (null) was lost nobody saw: it
    counts as if it had flown as long as the longest flight of the whole series.
    """
    longest_ms = max((r[took] for r in rows if r[took] is not None), default=0.0)
    took_ms = [longest_ms if r[took] is None else r[took] for r in rows]
    return [r for r, ms in zip(rows, took_ms, strict=True) if from_s <= r["t"] and r["t"] + ms / 1000 <= to_s]


def lateness_ms(times: Sequence[float], every_s: float) -> float | None:
    """By how much (ms, 95th percentile) the spacing of `times` exceeded what was planned: the measurer's own fault."""
    excess = [max(0.0, b - a - every_s) * 1000 for a, b in zip(times, times[1:], strict=False)]
    return rounded(quantile(excess, 0.95), 3)
