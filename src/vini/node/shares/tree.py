"""The classes by which slivers share the uplink: what follows from their Shares and what they sent today.  Pure."""

from __future__ import annotations

from collections.abc import Mapping

from vini.model import Share, Value
from vini.node.htb import Wish
from vini.node.shares.classify import EXEMPT
from vini.node.shares.record import MEGABYTE, Held, Sent
from vini.node.shares.settings import UplinkSettings

MAJOR = 0x56530000  # "VS": how we know our own
ROOT, FREE = MAJOR | 1, MAJOR | 2  # all that slivers send; of it, what is exempt
FIRST_SLOT, SLOTS = 16, 22_000  # below MAJOR, since a queue's own number is its class's
BYTES_PER_KBIT = 125
_UNBOUNDED = 12_500_000_000  # bytes/s: more than an uplink carries
_LITTLE = 8_000  # bytes/s: what each has of its own, so that none waits for ever
_QUANTUM = 600  # bytes in a turn, for each part of weight
_DAY_S = 86_400
_LEAST_QUEUE, _MOST_QUEUE, _QUEUE_S = 131_072, 4_000_000, 0.2  # two large segments; bytes; what it sends in that time


class Class(Value, frozen=True):
    """A class of the tree; only one with a queue holds packets."""

    parent: int
    wish: Wish
    queue: int = 0  # bytes


def classes(held: Mapping[str, Held], sent: Mapping[str, Sent], settings: UplinkSettings) -> dict[int, Class]:
    """By handle, from the root on."""
    most = _bytes(settings.rate_mbit * 1000) or _UNBOUNDED
    free = min(most, _bytes(settings.exempt_mbit * 1000) or most)
    out = {ROOT: Class(MAJOR, Wish(most, most))}
    if settings.exempt:
        out[FREE] = Class(ROOT, Wish(_LITTLE, free))
    for ns, one in held.items():
        out[MAJOR | one.slot] = _leaf(ROOT, wish(one.object, sent.get(ns, Sent()), most))
        if settings.exempt:
            out[MAJOR | EXEMPT | one.slot] = _leaf(FREE, Wish(min(_LITTLE, free), free, one.object.weight * _QUANTUM))
    return out


def wish(share: Share, sent: Sent, most: int) -> Wish:
    """What it may send now; once it has sent what it may in a day, that day's average rate, and no more."""
    own, ceil = _bytes(share.min_kbit) or _LITTLE, min(most, _bytes(share.max_kbit) or most)
    if sent.over(share):
        ceil = min(ceil, average(share))
    return Wish(min(own, ceil), ceil, share.weight * _QUANTUM)


def average(share: Share) -> int:
    """Bytes per second at which its daily bytes take a day."""
    return max(1, share.daily_mb * MEGABYTE // _DAY_S)


def _leaf(parent: int, wish: Wish) -> Class:
    return Class(parent, wish, int(min(_MOST_QUEUE, max(_LEAST_QUEUE, wish.ceil * _QUEUE_S))))


def _bytes(kbit: float) -> int:
    return round(kbit * BYTES_PER_KBIT)
