"""What an operator grants to a slice beyond what every sliver may ask of its node's broker.  Pure.

A grant is a word: `tcp:8000`, or `tcp:8000-8010`: ports of the node that processes of the slice may listen at.
"""

from __future__ import annotations

import re

from vini.model import Value
from vini.rules.errors import Invalid

TAG = "broker"  # the slice tag whose value they are
_GRANT = re.compile(r"tcp:([0-9]{1,5})(?:-([0-9]{1,5}))?")
_MOST = 50


class Ports(Value, frozen=True):
    """TCP ports of a node, both ends included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"tcp:{self.first}" if self.first == self.last else f"tcp:{self.first}-{self.last}"


def parsed(text: str) -> tuple[Ports, ...]:
    """Of words between commas or spaces.  Raises Invalid."""
    words = text.replace(",", " ").split()
    if len(words) > _MOST:
        raise Invalid(f"A slice may have {_MOST} grants, not {len(words)}; join neighbouring ports, as tcp:8000-8010.")
    return tuple(map(_grant, words))


def _grant(word: str) -> Ports:
    found = _GRANT.fullmatch(word)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 0 < first <= last < 65536:
        raise Invalid(f"{word!r} is no grant; ports of the node are granted as tcp:8000 or tcp:8000-8010.")
    return Ports(first, last)


def words(grants: tuple[Ports, ...]) -> str:
    """As `parsed` reads them."""
    return ",".join(map(str, grants))


def allow_port(grants: tuple[Ports, ...], port: int) -> bool:
    """Whether processes of the slice may listen at that port of the node."""
    return any(g.first <= port <= g.last for g in grants)
