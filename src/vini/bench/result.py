"""What a benchmark found: rows with their targets, ready for JSON.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Literal

from vini.model import Value


class Row(Value, frozen=True):
    """One figure.  `ratio` is value / target; a figure without a target is there to be looked at."""

    name: str
    value: float
    unit: str  # "s", "ms", "MB", "x" (a ratio of two times), "packets"
    target: float | None = None
    sense: Literal["at most", "at least"] = "at most"
    ratio: float | None = None
    met: bool | None = None
    repetitions: tuple[float, ...] = ()  # what `value` is the median of, in the order of measuring
    note: str = ""


class Missing(Value, frozen=True):
    """A figure that could not be had, and why.  `failed`: not for want of a feature; it should have worked."""

    name: str
    why: str
    failed: bool = False


Found = list[Row | Missing]


def row(
    name: str,
    repetitions: Sequence[float],
    unit: str,
    target: float | None = None,
    sense: Literal["at most", "at least"] = "at most",
    note: str = "",
) -> Row:
    """The median of `repetitions`, judged by `target`."""
    value = median(repetitions)
    ratio = met = None
    if target is not None:
        ratio = value / target if target else None
        met = value <= target if sense == "at most" else value >= target
    return Row(name, value, unit, target, sense, ratio, met, tuple(repetitions), note)


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Round by round, so that a noisy minute that slowed both sides of a round cancels out."""
    return [a / b for a, b in zip(over, under, strict=True)]
