"""What can be read and written by name while a program runs: its counters and its tables, as text and as bytes."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from vini.elements.addresses import Vifs, read_prefix, show_prefix
from vini.elements.kinds import Table
from vini.elements.values import TYPES, pack, unpack
from vini.model import Value
from vini.text.mistakes import Wrong, quote

_TALLY = struct.Struct("=QQ")  # struct tally, runtime.h
_INDEX = struct.Struct("=I")  # of a counter, in its map


class Cell(Value, frozen=True):
    """A counter (`lookup.hits`), or a table (`lookup.routes`); `map` is the eBPF map's name in the object."""

    name: str
    map: str
    index: int = -1  # of a counter, in its map
    table: Table | None = None

    @property
    def headings(self) -> tuple[str, ...]:
        """The names of a row's columns."""
        if self.table is None:
            return ("packets", "bytes")
        return (self.table.key if self.table.shape != "array" else "number", *(f.name for f in self.table.fields))


def key_of(table: Table, text: str, vifs: Vifs) -> bytes:
    """A key as the map holds it; Wrong with a sentence where the text is none."""
    if table.shape == "lpm":
        return read_prefix(text, 4 if table.key == "ip4" else 6)
    raw = TYPES[table.key].read(text, vifs)
    if table.shape == "array" and int(text, 0) >= table.entries:
        raise Wrong(f"{quote(table.name)} has the entries 0..{table.entries - 1}, not {quote(text)}.")
    return raw


def value_of(table: Table, texts: Sequence[str], vifs: Vifs) -> bytes:
    """What the map holds for a key, its fields laid out as C does; Wrong with a sentence where a text is none."""
    given = list(texts)
    given += [f.default for f in table.fields[len(given) :] if f.default is not None]
    if len(given) != len(table.fields):
        wanted = " ".join(f.name for f in table.fields)
        raise Wrong(
            f"An entry of {quote(table.name)} holds other values than these {len(texts)}.", f"it holds {wanted}"
        )
    types = tuple(TYPES[f.type] for f in table.fields)
    return pack(types, tuple(t.read(text, vifs) for t, text in zip(types, given, strict=True)))


def encode(cell: Cell, key: str, values: Sequence[str], vifs: Vifs) -> tuple[bytes, bytes]:
    """Key and value for the map of a table; of a counter, which has no keys, the one that it may be set to: "0".

    Wrong with a sentence where a text does not fit.
    """
    if cell.table is None:
        if key != "0" or values:
            raise Wrong(f"{quote(cell.name)} is a counter: all that can be written to it is 0.", "to begin anew")
        return _INDEX.pack(cell.index), _TALLY.pack(0, 0)
    return key_of(cell.table, key, vifs), value_of(cell.table, values, vifs)


def tally(counter: Cell, held: Mapping[bytes, Sequence[bytes]]) -> tuple[int, int]:
    """Packets and bytes that a counter's map holds for it: the sum of all processors."""
    of_processors = [_TALLY.unpack(raw) for raw in held.get(_INDEX.pack(counter.index), ())]
    return sum(packets for packets, _ in of_processors), sum(size for _, size in of_processors)


def decode(cell: Cell, held: Mapping[bytes, Sequence[bytes]], vifs: Vifs) -> list[tuple[str, ...]]:
    """Rows of text, under `headings`, of what a map holds: key -> its value, one of each processor."""
    if cell.table is None:
        packets, size = tally(cell, held)
        return [(str(packets), str(size))]
    table = cell.table
    return [(_show_key(table, key, vifs), *_show_value(table, raws[0], vifs)) for key, raws in sorted(held.items())
            if table.shape != "array" or any(raws[0])]  # fmt: skip


def _show_key(table: Table, raw: bytes, vifs: Vifs) -> str:
    return show_prefix(raw) if table.shape == "lpm" else TYPES[table.key].show(raw, vifs)


def _show_value(table: Table, raw: bytes, vifs: Vifs) -> tuple[str, ...]:
    types = tuple(TYPES[f.type] for f in table.fields)
    return tuple(t.show(one, vifs) for t, one in zip(types, unpack(types, raw), strict=True))
