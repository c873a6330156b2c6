"""The arguments of every instance, read: values as the program holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from vini.elements.addresses import Vifs
from vini.elements.cells import key_of, value_of
from vini.elements.graph import ENDS, ENTRIES, Argument, Graph, Instance, Row
from vini.elements.kinds import Kind, Parameter, Table
from vini.elements.values import TYPES
from vini.text.mistakes import Mark, Mistakes, Wrong, nearest, quote

T = TypeVar("T")
MOST_OF_MANY = 16  # arguments without a name, runtime.h


@dataclass(frozen=True)
class HeldRow:
    """What a table holds at the start, as the program holds it."""

    table: str
    key: bytes
    value: bytes


@dataclass(frozen=True)
class Settled:
    """An instance whose arguments are read."""

    instance: Instance
    kind: Kind
    settings: Mapping[str, bytes]
    many: tuple[bytes, ...]  # of the parameter that takes all arguments without a name
    outputs: tuple[str, ...]  # names, in the order of their numbers
    rows: tuple[HeldRow, ...]
    shared: Mapping[str, Argument]  # own table -> the argument that names another's, `instance.table`


def settle(graph: Graph, kinds: Mapping[str, Kind], vifs: Vifs, mistakes: Mistakes) -> dict[str, Settled]:
    """Every instance of an element of the library; mistakes are noted."""
    found = {}
    for instance in graph.instances.values():
        if instance.kind in ENTRIES or instance.kind in ENDS:
            _check_end(instance, vifs, mistakes)
        elif instance.kind in kinds:
            found[instance.name] = _Settling(instance, kinds[instance.kind], vifs, mistakes).settle()
        else:
            known = [*kinds, *ENTRIES, *ENDS]
            mistakes.unknown(instance.at, f"There is no element {quote(instance.kind)}.", instance.kind, known)
    return found


def vif_of(instance: Instance) -> str:
    """The vif that an entry or `out` names; "": any, or the one chosen so far."""
    return instance.arguments[0].text if instance.arguments else ""


def _check_end(instance: Instance, vifs: Vifs, mistakes: Mistakes) -> None:
    takes = 0 if instance.kind in ("kernel", "drop") else 1
    if len(instance.arguments) > takes:
        what = f"{quote(instance.kind)} takes " + ("one vif at most." if takes else "no arguments.")
        mistakes.add(instance.arguments[takes].at, what)
    for a in instance.arguments[:takes]:
        if a.name or a.rows is not None:
            mistakes.add(a.at, f"{quote(instance.kind)} takes a vif's name only.", f"{instance.kind}(VIF)")
        elif a.text not in vifs:
            mistakes.unknown(a.at, f"The sliver has no vif {quote(a.text)}.", a.text, vifs)


class _Settling:
    """Reads the arguments of one instance."""

    def __init__(self, instance: Instance, kind: Kind, vifs: Vifs, mistakes: Mistakes):
        self._instance, self._kind, self._vifs, self._mistakes = instance, kind, vifs, mistakes
        self._named = {p.name: p for p in kind.parameters if not p.many}
        self._many_of = next((p for p in kind.parameters if p.many), None)
        self._tables = {t.name: t for t in kind.tables}
        self._settings: dict[str, bytes] = {}
        self._seen: set[str] = set()
        self._many: dict[str, bytes] = {}
        self._rows: list[HeldRow] = []
        self._shared: dict[str, Argument] = {}

    def settle(self) -> Settled:
        """All arguments."""
        written = {a.name for a in self._instance.arguments}
        free = [p for p in self._named.values() if p.name not in written]
        for a in self._instance.arguments:
            if a.name:
                self._one_with_a_name(a)
            elif self._many_of:
                self._one_of_many(self._many_of, a)
            elif free:
                self._set(free.pop(0), a)
            else:
                self._surplus(a)
        self._fill_in()
        kind = self._kind
        outputs = (*(self._many if kind.outputs_of else ()), *(o.name for o in kind.outputs))
        return Settled(
            self._instance, kind, self._settings, tuple(self._many.values()), outputs, tuple(self._rows), self._shared
        )

    def _one_with_a_name(self, a: Argument) -> None:
        kind, table = quote(self._kind.name), self._tables.get(a.name)
        if a.name in self._seen:
            self._mistakes.add(a.at, f"{quote(a.name)} is given twice.")
        elif table and a.rows is not None:
            self._rows.extend(self._read_rows(table, a))
        elif table and "." in a.text:
            self._shared[a.name] = a
        elif table:
            what = f"{quote(a.name)} of {kind} is a table."
            self._mistakes.add(a.at, what, "write {key = value}, [row, row], or instance.table to share another's")
        elif a.name not in self._named:
            known = [*self._named, *self._tables]
            self._mistakes.add(a.at, f"The element {kind} has no parameter {quote(a.name)}.", nearest(a.name, known))
        elif a.rows is not None:
            self._mistakes.add(a.at, f"{quote(a.name)} of {kind} is no table: write one value.")
        else:
            self._set(self._named[a.name], a)
        self._seen.add(a.name)

    def _one_of_many(self, many: Parameter, a: Argument) -> None:
        raw = self._reading(a.at, lambda: TYPES[many.type].read(a.text, self._vifs))
        if raw is None:
            return
        if len(self._many) == MOST_OF_MANY:
            self._mistakes.add(a.at, f"{quote(self._kind.name)} takes at most {MOST_OF_MANY} of these.")
        elif self._kind.outputs_of and raw in self._many.values():
            self._mistakes.add(a.at, f"{quote(a.text)} is given twice.")
        else:
            name = a.text if self._kind.outputs_of else str(len(self._many))
            self._many[name] = raw

    def _surplus(self, a: Argument) -> None:
        hint = f"`vini program elements {self._kind.name}` says which"
        self._mistakes.add(a.at, f"The element {quote(self._kind.name)} takes no more arguments.", hint)

    def _set(self, parameter: Parameter, a: Argument) -> None:
        raw = self._reading(a.at, lambda: TYPES[parameter.type].read(a.text, self._vifs))
        self._seen.add(parameter.name)
        if raw is not None:
            self._settings[parameter.name] = raw

    def _read_rows(self, table: Table, a: Argument) -> Iterator[HeldRow]:
        seen: dict[bytes, Mark] = {}
        for row in a.rows or ():
            held = self._reading(row.at, partial(self._read_row, table, row))
            if held is None:
                continue
            if held.key in seen:
                what = f"{quote(row.key)} is in the table {quote(table.name)} twice."
                self._mistakes.add(row.at, what, f"first in line {seen[held.key][0]}")
            seen.setdefault(held.key, row.at)
            yield held
        if len(seen) > table.entries:
            self._mistakes.add(a.at, f"The table {quote(table.name)} has room for {table.entries} entries.")

    def _read_row(self, table: Table, row: Row) -> HeldRow:
        return HeldRow(table.name, key_of(table, row.key, self._vifs), value_of(table, row.values, self._vifs))

    def _reading(self, at: Mark, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except Wrong as e:
            self._mistakes.add(at, str(e), e.hint)
            return None

    def _fill_in(self) -> None:
        """Defaults; what has none must be given."""
        name = quote(self._kind.name)
        if self._many_of and not self._many and not any(not a.name for a in self._instance.arguments):
            self._mistakes.add(self._instance.at, f"The element {name} needs arguments.", self._many_of.what)
        for p in self._named.values():
            if p.name in self._seen:
                continue
            if p.default is None:
                what = f"The element {name} needs {quote(p.name)}."
                self._mistakes.add(self._instance.at, what, f"{p.what}: {TYPES[p.type].what}")
            else:
                self._settings[p.name] = TYPES[p.type].read(p.default, self._vifs)
