"""Who logged in to slivers by SSH, as a node says."""

from __future__ import annotations

from vini.model import Value

MOST_NUMBER = 1 << 62  # that a database takes, and more


class Login(Value, frozen=True, forbid_unknown_fields=False):
    """Somebody was let in, or has gone again."""

    number: int  # of this node: of a later one a higher one
    user: str  # what he logged in as: "slice.sliver", or "slice"
    person: str  # whose key it was
    source: str  # address
    at: float  # Unix time by the node's clock, s
    seconds: float = -1.0  # how long he was in; -1: he has just come
