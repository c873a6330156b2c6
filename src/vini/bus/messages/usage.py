"""What slivers used of a node, by day."""

from __future__ import annotations

from vini.bus.messages.message import Message
from vini.usage import SliceUse


class AskUsage(Message, frozen=True):
    """What did slivers use, by day?  Answered by `Usage`, in the order of days and slices."""

    day: int = 0  # of UTC, since 1970: from this one on
    after: str = ""  # of that day only slices whose names are behind this one


class Usage(Message, frozen=True):
    """All that is in a node's book, or with `more` only the first of it."""

    rows: tuple[SliceUse, ...]
    more: bool = False
