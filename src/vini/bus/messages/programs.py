"""The tables of a sliver's program in the kernel."""

from __future__ import annotations

from vini.bus.messages.message import Message
from vini.model import Value


class AskMaps(Message, frozen=True):
    """What the maps of a sliver's program hold.  Answered by `Maps`."""

    ns: str
    names: tuple[str, ...] | None = None  # only these; None: all


class WriteRow(Message, frozen=True):
    """Set a row of a map of a sliver's program; without a value, take it out.  Answered by `Lines`."""

    ns: str
    map: str
    key: bytes
    value: bytes | None


class MapRows(Value, frozen=True):
    """A map of a program, and what it holds: keys with their values, one or one for each processor."""

    type: str  # "hash", "lpm_trie", "percpu_array", ...
    key_size: int  # bytes
    value_size: int
    max_entries: int
    rows: tuple[tuple[bytes, tuple[bytes, ...]], ...]


class Maps(Message, frozen=True):
    """Map name -> what it holds; and how many packets the program handled, and were beyond its budget."""

    maps: dict[str, MapRows]
    packets: int
    over_budget: int
    slice_kpps: int  # the budget of the whole slice in force
