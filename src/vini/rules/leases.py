"""Leases: a node for one slice, for whole grains of time.  Whoever has none is there as long as nobody has one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from math import inf

from vini.model import Conflict, Value
from vini.rules.errors import Invalid

GRAIN_S = 3600
AHEAD_S = 366 * 86_400


class Busy(Value, frozen=True):
    """A time in which a node is not free, and why, as it follows the node's name in a sentence."""

    start: float
    end: float
    why: str = ""


def rounded(start: float, end: float, now: float) -> tuple[int, int]:
    """Start up, end down to whole grains.  Raises Invalid where nothing is left, or it is not ahead."""
    first, last = _up(start), int(end // GRAIN_S) * GRAIN_S
    if last <= first:
        raise Invalid(
            f"A lease is for whole hours: of the time from {moment(start)} to {moment(end)} none is left; ask "
            f"for at least the hour from {moment(start // GRAIN_S * GRAIN_S)} on."
        )
    if last <= now:
        raise Invalid("A lease can't be for a time that is over; ask for a later one.")
    if last > now + AHEAD_S:
        raise Invalid("A lease can be had for at most a year ahead; ask for an earlier time.")
    return first, last


def _up(time: float) -> int:
    return int(-(-time // GRAIN_S)) * GRAIN_S


def clash(start: float, end: float, busy: Iterable[Busy]) -> Busy | None:
    """The first that overlaps that time; one may start in the moment in which another ends."""
    return min((b for b in busy if start < b.end and b.start < end), key=lambda b: b.start, default=None)


def nearest(start: int, end: int, busy: Sequence[Busy]) -> int:
    """The earliest start, not before that one, from which on as long a time is free."""
    length = end - start
    while (found := clash(start, start + length, busy)) is not None:
        start = _up(found.end)
    return start


def opens(at: float, until: float, busy: Iterable[Busy]) -> float:
    """The earliest whole hour, not before `at`, from which on nothing is until then; infinite: there is none."""
    start = max((b.end for b in busy if b.start < until), default=0.0)
    start = max(_up(at), _up(start))
    return start if start < until else inf


def refused(node: str, start: int, end: int, busy: Sequence[Busy], elsewhere: str = "") -> Conflict:
    """What to say of a time that is not free: why, the nearest that is, and another node that is free then."""
    found = clash(start, end, busy)
    assert found is not None
    other = f", or ask for node {elsewhere!r}, which is free then" if elsewhere else ""
    return Conflict(
        f"Node {node!r} {found.why} from {moment(found.start)} to {moment(found.end)}. The nearest time that fits "
        f"begins at {moment(nearest(start, end, busy))}; ask for that{other}."
    )


def until(now: float, expires: float, others: Iterable[Busy], staying: bool) -> float:
    """Until when a slice that expires then may be on a node which others have leased; 0: it may not be there.

    Who has a lease there or is there already stays until somebody else's lease begins; nobody new comes to a node
    where he could not stay to his end.
    """
    ahead = [b for b in others if b.end > now]
    begins = min((b.start for b in ahead), default=inf)
    if begins >= expires:
        return expires
    return begins if staying and begins > now else 0.0


def moment(time: float) -> str:
    """For a sentence."""
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M} UTC"
