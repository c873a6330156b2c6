"""A sliver's program by the names that its author gave: what its counters and tables hold, as rows of text.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vini.elements import Cell, compile_elements, decode, encode
from vini.elements.cells import key_of
from vini.embed import prepared
from vini.layout import layout
from vini.model import NotFound, Program, Topology, Value, ViniError
from vini.plugins.programs import Prepared
from vini.text.mistakes import Wrong, nearest

Held = Mapping[bytes, Sequence[bytes]]  # key -> its value, or one of each processor


class Shown(Value, frozen=True):
    """A counter or a table with its rows."""

    name: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class View:
    """One sliver's program, and the vifs that it speaks of.  Raises NotFound where it has none in the kernel."""

    def __init__(self, topology: Topology, sliver: str):
        found = topology.slivers[sliver].program
        if found is None or found.kind not in ("elements", "c"):
            what = "is a process; its counters are its own" if found else "has no program"
            raise NotFound(f"{sliver!r} {what}; `vini program load {sliver} FILE` gives it one.")
        self.program: Program = found
        made = layout(topology)
        self.vifs = [v.dev for v in made.vifs[sliver]]
        self.hooked: Prepared = prepared(made, sliver, found)
        self.cells: tuple[Cell, ...] = ()
        if found.kind == "elements":
            self.cells = compile_elements(found.text, found.name, self.vifs).cells

    def cell(self, name: str) -> Cell:
        """The counter or table of that name.  Raises NotFound with the nearest one."""
        for c in self.cells:
            if c.name == name:
                return c
        raise NotFound(f"The program has no {name!r}: {nearest(name, [c.name for c in self.cells])}")

    def show(self, held: Mapping[str, Held], name: str = "") -> list[Shown]:
        """What the maps hold, all or one; of a program in C as hexadecimal digits."""
        if not self.cells:
            return [_plain(n, rows) for n, rows in held.items() if name in ("", n)]
        chosen = [self.cell(name)] if name else self.cells
        return [Shown(c.name, c.headings, tuple(decode(c, held.get(c.map, {}), self.vifs))) for c in chosen]

    def entry(self, name: str, key: str, values: Sequence[str]) -> tuple[str, bytes, bytes]:
        """Map, key and value for one row of a table; of a program in C the texts are hexadecimal digits."""
        try:
            if not self.cells:
                return name, bytes.fromhex(key), bytes.fromhex("".join(values))
            cell = self.cell(name)
            return cell.map, *encode(cell, key, values, self.vifs)
        except Wrong as e:
            raise ViniError(f"{e}" + (f" ({e.hint})" if e.hint else "")) from e
        except ValueError as e:
            raise ViniError("Keys and values of a program in C are written in hexadecimal: 0a000001.") from e

    def key(self, name: str, key: str) -> tuple[str, bytes]:
        """Map and key of one row of a table."""
        if not self.cells:
            return name, bytes.fromhex(key)
        cell = self.cell(name)
        if cell.table is None:
            raise ViniError(f"{name!r} is a counter: it can only be read.")
        return cell.map, key_of(cell.table, key, self.vifs)


def _plain(name: str, rows: Held) -> Shown:
    return Shown(
        name, ("key", "value"), tuple((k.hex(), " ".join(v.hex() for v in vs)) for k, vs in sorted(rows.items()))
    )
