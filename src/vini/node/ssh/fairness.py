"""What one client, one person and one slice may have of a node's SSH server, so that none takes it from the others.

Pure, but for that they remember.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from ipaddress import ip_address
from typing import Generic, TypeVar

STRANGERS = 200  # connections at once that have not logged in yet
PER_SLICE = 240  # connections that are in, of all members of a slice
PER_PERSON = 120  # of one person, in all slices together
IN_ALL = 1000  # an idle one takes 0.1 MB, a busy one up to 1 MB
PER_CONNECTION = 120  # sessions and forwarded connections at once in one of them
BURST, PER_SECOND = 150.0, 10.0  # connections that one source may begin at once, and from then on
TRIES = 64  # keys that one connection may offer
_V6_NETWORK = 8  # bytes of an IPv6 address that are one source: a host has a /64 to choose from

T = TypeVar("T", bound=Hashable)


def source(address: str) -> str:
    """Whose connections count together: an IPv4 address, or an IPv6 network of 64 bits."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 6:
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return found.packed[:_V6_NETWORK].hex()
    return str(found)


class Strangers(Generic[T]):
    """Those who have not logged in yet.  When there are too many, the newest of whoever has most has to go: who has
    few of them is never kept out by who has many."""

    def __init__(self, most: int = STRANGERS):
        self._most = most
        self._of: dict[str, dict[T, None]] = {}
        self._source: dict[T, str] = {}

    def __len__(self) -> int:
        return len(self._source)

    def come(self, who: T, source_: str) -> T | None:
        """One more; who has to go for him, if anybody, which may be himself."""
        self._of.setdefault(source_, {})[who] = None
        self._source[who] = source_
        if len(self._source) <= self._most:
            return None
        crowd = max(self._of.values(), key=len)
        loser = next(reversed(crowd))
        self.gone(loser)
        return loser

    def gone(self, who: T) -> None:
        """He has logged in, or hung up."""
        if (source_ := self._source.pop(who, None)) is not None:
            del self._of[source_][who]
            if not self._of[source_]:
                del self._of[source_]


class Census:
    """Connections that are in."""

    def __init__(self, per_slice: int = PER_SLICE, per_person: int = PER_PERSON, in_all: int = IN_ALL):
        self._per_slice, self._per_person, self._in_all = per_slice, per_person, in_all
        self._slices: Counter[str] = Counter()
        self._persons: Counter[str] = Counter()

    def why_not(self, slice_: str, person: str) -> str:
        """Why he may not come in now, as a sentence; "": he may."""
        if self._persons[person] >= self._per_person:
            return f"You have {self._per_person} SSH connections to this node already; end some."
        if self._slices[slice_] >= self._per_slice:
            return f"Slice {slice_} has {self._per_slice} SSH connections to this node already; end some."
        if self._slices.total() >= self._in_all:
            return f"This node has {self._in_all} SSH connections already; try again later."
        return ""

    def come(self, slice_: str, person: str) -> None:
        """He is in."""
        self._slices[slice_] += 1
        self._persons[person] += 1

    def gone(self, slice_: str, person: str) -> None:
        """He has gone."""
        for counter, name in ((self._slices, slice_), (self._persons, person)):
            counter[name] -= 1
            if counter[name] <= 0:
                del counter[name]
