"""Leases: a node for one slice, for whole grains of time."""

from __future__ import annotations

from collections.abc import Iterable

from vini.model import Conflict
from vini.rules.errors import Invalid

GRAIN_S = 3600
AHEAD_S = 366 * 86_400


def rounded(start: float, end: float, now: float) -> tuple[int, int]:
    """Start up, end down to whole grains.  Raises Invalid where nothing is left, or it is not ahead."""
    first, last = int(-(-start // GRAIN_S)) * GRAIN_S, int(end // GRAIN_S) * GRAIN_S
    if last <= first:
        raise Invalid(
            f"A lease is for whole hours: of the time from {start:.0f} to {end:.0f} none is left. Ask for more."
        )
    if last <= now:
        raise Invalid("A lease can't be for a time that is over; ask for a later one.")
    if last > now + AHEAD_S:
        raise Invalid("A lease can be had for at most a year ahead; ask for an earlier time.")
    return first, last


def free(node: str, start: int, end: int, others: Iterable[tuple[int, int]]) -> None:
    """Raises Conflict where it overlaps another; one may start in the moment in which another ends."""
    for a, b in others:
        if start < b and a < end:
            raise Conflict(f"Node {node!r} is leased from {a} to {b}; ask for another time, or for another node.")
