"""A sliver's program by the names that its author gave: what its counters and tables hold, as rows of text.  Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from vini.c_tables import CTable, Integer, declared, of_object
from vini.elements import Cell, compile_elements, decode, encode
from vini.elements.cells import key_of, tally
from vini.embed import prepared
from vini.layout import layout
from vini.model import IN_KERNEL, NotFound, Program, Topology, Value, ViniError
from vini.placement import crossing
from vini.plugins.programs import Prepared
from vini.plugins.tunnels import kind_of, runs_xdp
from vini.text.mistakes import Wrong, nearest

_NODES = frozenset({"vifs", "counters"})  # maps of runtime.h, which the node fills, or elements count in
_UNTYPED = CTable(None, None)
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
        if found is None or found.kind not in IN_KERNEL:
            if found:
                raise NotFound(f"The program of {sliver!r} is a process; its tables are its own.")
            raise NotFound(f"{sliver!r} has no program; `vini program load {sliver} FILE` gives it one.")
        self.program: Program = found
        made = layout(topology)
        self.vifs = [v.dev for v in made.vifs[sliver]]
        self.cells: tuple[Cell, ...] = ()
        self._declared: dict[str, CTable] = {}
        if found.kind != "elements":
            self._declared = of_object(found.text) if found.kind == "object" else declared(found.text)
        if found.kind == "elements":
            self.cells = compile_elements(found.text, found.name, self.vifs).cells

    def cell(self, name: str) -> Cell:
        """The counter or table of that name.  Raises NotFound with the nearest one."""
        for c in self.cells:
            if c.name == name:
                return c
        raise NotFound(f"The program has no {name!r}: {nearest(name, [c.name for c in self.cells])}")

    def counter_maps(self) -> tuple[str, ...]:
        """The maps in which its counters are."""
        return tuple(sorted({c.map for c in self.cells if c.table is None}))

    def counted(self, held: Mapping[str, Held]) -> dict[str, tuple[int, int]]:
        """Of each counter its packets and bytes, as the maps hold them."""
        return {c.name: tally(c, held.get(c.map, {})) for c in self.cells if c.table is None}

    def show(self, held: Mapping[str, Held], name: str = "") -> list[Shown]:
        """What the maps hold, all or one, but for the node's own.

        Of a program in C, or compiled, as numbers where it declares integers, else as hexadecimal digits.
        """
        if self.program.kind != "elements":
            # An object declares the node's maps too; a source that includes runtime.h names only its own.
            its_own = self._declared if self.program.kind == "c" else {}
            own = {n: rows for n, rows in held.items() if n not in _NODES or n in its_own}
            return [_plain(n, self._table(n), rows) for n, rows in own.items() if name in ("", n)]
        chosen = [self.cell(name)] if name else self.cells
        return [Shown(c.name, c.headings, tuple(decode(c, held.get(c.map, {}), self.vifs))) for c in chosen]

    def entry(self, name: str, key: str, values: Sequence[str]) -> tuple[str, bytes, bytes]:
        """Map, key and value for one row of a table, from texts as `show` has them; for a counter `key` is 0."""
        with _told():
            if self.program.kind != "elements":
                table = self._table(name)
                return name, _raw(table.key, (key,)), _raw(table.value, values)
            cell = self.cell(name)
            return cell.map, *encode(cell, key, values, self.vifs)

    def key(self, name: str, key: str) -> tuple[str, bytes]:
        """Map and key of one row of a table."""
        with _told():
            if self.program.kind != "elements":
                return name, _raw(self._table(name).key, (key,))
            cell = self.cell(name)
            if cell.table is None:
                raise ViniError(f"{name!r} is a counter, which has no rows to take out: write 0 to begin anew.")
            return cell.map, key_of(cell.table, key, self.vifs)

    def _table(self, name: str) -> CTable:
        return self._declared.get(name, _UNTYPED)


def hooked(topology: Topology, sliver: str, placed: Mapping[str, str] | None = None) -> Prepared:
    """How the kernel has a sliver's program, one that is `in_kernel`; `placed` has each sliver's node, where there
    are several: a tunnel may not take every hook."""
    # Of a sliver that has no node yet, nobody knows where its links lead.
    told = {**dict.fromkeys(topology.slivers, ""), **(placed or {})}
    apart = crossing(topology, told) if placed and not runs_xdp(kind_of(topology)) else ()
    program = topology.slivers[sliver].program
    if program is None or not program.in_kernel:
        raise NotFound(f"{sliver!r} has no program in the kernel.")
    return prepared(layout(topology), sliver, program, apart)


def of_process(text: str, name: str) -> list[Shown]:
    """What `vini.packets` writes of a process's vifs; `name` is "vifs", one of them, or "" for all there is.

    ViniError where the text is nonsense.
    """
    try:
        vifs = {vif: dict(counted) for vif, counted in json.loads(text)["vifs"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        raise ViniError(f"The counters of this process can't be read: {e}. Does another program write them?") from e
    if name not in ("", "vifs", *vifs):
        raise NotFound(f"The program has no {name!r}: {nearest(name, vifs)}")
    chosen = {vif: counted for vif, counted in vifs.items() if name in ("", "vifs", vif)}
    headings = tuple(next(iter(vifs.values()), {}))
    rows = tuple((vif, *(str(counted.get(h, "")) for h in headings)) for vif, counted in chosen.items())
    return [Shown("vifs", ("vif", *headings), rows)]


@contextmanager
def _told() -> Iterator[None]:
    """A text that is none of what a table holds, as a sentence."""
    try:
        yield
    except Wrong as e:
        raise ViniError(f"{e}" + (f" ({e.hint})" if e.hint else "")) from e
    except ValueError as e:
        raise ViniError(
            "Keys and values of this table are written in hexadecimal, as they are in memory: 0a000001."
        ) from e


def _raw(type_: Integer | None, texts: Sequence[str]) -> bytes:
    return type_.raw(" ".join(texts)) if type_ else bytes.fromhex("".join(texts))


def _plain(name: str, table: CTable, rows: Held) -> Shown:
    told = ((_text(table.key, k), " ".join(_text(table.value, v) for v in vs)) for k, vs in sorted(rows.items()))
    return Shown(name, ("key", "value"), tuple(told))


def _text(type_: Integer | None, raw: bytes) -> str:
    return type_.text(raw) if type_ else raw.hex()
