"""What slivers used of their nodes in a day of UTC, and how that follows from looks at the kernel's counters.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from itertools import zip_longest

from vini.model import Value

DAY_S = 86_400
_MOST = ("memory_most", "disk_most")  # of several slivers or days the greatest counts, of all else the sum
Counters = Mapping[str, tuple[int, ...]]  # source, which is another one when it begins anew -> what it has counted


class Use(Value, frozen=True, forbid_unknown_fields=False):
    """Of one sliver in a day, or of many in many.  Bytes of the network are those of Ethernet frames, as its vifs
    count them: without the headers of tunnels."""

    outside_out: int = 0  # bytes to the world, by the vif `outside`
    outside_in: int = 0  # and from there
    tunnel_out: int = 0  # bytes to slivers on other nodes
    tunnel_in: int = 0  # and from there
    exempt_out: int = 0  # of all that it sent, what went to its node's exempt networks; with headers
    cpu_us: int = 0  # of one processor
    memory_byte_s: int = 0  # the sum of bytes times seconds
    memory_most: int = 0  # bytes: the most of one sliver at a look
    disk_byte_s: int = 0  # of its disk and its volumes
    disk_most: int = 0
    up_s: int = 0  # how long it was there


FIELDS = Use.__struct_fields__


class SliceUse(Value, frozen=True, forbid_unknown_fields=False):
    """What the slivers of a slice used on one node in one day, as far as that has passed."""

    day: int  # of UTC, since 1970
    slice: str
    slivers: dict[str, Use]
    book: str  # what is told of a day replaces what the same book told of it before, and adds to what others told


class Look(Value, frozen=True):
    """One sliver at one moment."""

    counters: Counters  # "outside ..." and "tunnel ..." (bytes in, bytes out), "cpu ..." (us), "exempt ..." (bytes)
    memory: int = 0  # bytes
    disk: int = 0


def plus(a: Use, b: Use) -> Use:
    """Of both together."""
    pairs = ((f, getattr(a, f), getattr(b, f)) for f in FIELDS)
    return Use(**{f: max(x, y) if f in _MOST else x + y for f, x, y in pairs})


def total(uses: Iterable[Use]) -> Use:
    """Of all together."""
    return reduce(plus, uses, Use())


def since(known: Counters | None, look: Look, seconds: int) -> Use:
    """What was used since the look before, so many seconds ago, at which the counters said what is `known`.

    A source that was not known began meanwhile, at 0, and so did one that says less than it did; None: nobody has
    looked yet, so nothing is known of when any of them began.
    """
    if known is None:
        return Use(memory_most=look.memory, disk_most=look.disk)
    new: dict[str, list[int]] = {}
    for source, now in look.counters.items():
        before = known.get(source, ())
        began = len(before) != len(now) or any(n < b for n, b in zip(now, before, strict=True))
        gained = now if began else tuple(n - b for n, b in zip(now, before, strict=True))
        kind = source.partition(" ")[0]
        new[kind] = [a + b for a, b in zip_longest(new.get(kind, ()), gained, fillvalue=0)]
    received, sent = new.get("outside", [0, 0])
    tunnel_in, tunnel_out = new.get("tunnel", [0, 0])
    return Use(
        sent, received, tunnel_out, tunnel_in, sum(new.get("exempt", ())), sum(new.get("cpu", ())),
        look.memory * seconds, look.memory, look.disk * seconds, look.disk, seconds,
    )  # fmt: skip
