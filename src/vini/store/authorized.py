"""Who may come into which slices on which nodes: what follows from members, accounts and keys."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from sqlalchemy import and_, bindparam, select

from vini.store import counters
from vini.store.database import Tx
from vini.store.tables import keys, nodes, persons, slice_guests, slice_members, slices, specs

COUNTER = "authorized"
_ON_NODES = (
    select(nodes.c.name, slices.c.name, slices.c.generation)
    .select_from(specs.join(nodes).join(slices, slices.c.name == specs.c.slice))
    .where(nodes.c.name.in_(bindparam("of", expanding=True)), specs.c.ends.is_(False))
)
_ENABLED = persons.c.enabled
_NAMED = slices.c.name.in_(bindparam("of", expanding=True))
_MEMBERS = slice_members.join(persons, and_(persons.c.id == slice_members.c.person_id, _ENABLED)).join(keys)
_KEYS = (
    select(slices.c.name, keys.c.key, persons.c.email)
    .select_from(slices.join(_MEMBERS, slice_members.c.slice_id == slices.c.id))
    .where(_NAMED)
    .order_by(slices.c.name, keys.c.id)
)
_LET_IN = slice_guests.join(persons, and_(persons.c.id == slice_guests.c.person_id, _ENABLED)).join(keys)
_GUESTS = (
    select(slices.c.name, keys.c.key, persons.c.email, slice_guests.c.slivers, slice_guests.c.until)
    .select_from(slices.join(_LET_IN, slice_guests.c.slice_id == slices.c.id))
    .where(_NAMED)
    .order_by(slices.c.name, keys.c.id)
)


def changed(tx: Tx) -> None:
    """Members, accounts, keys, or what slices' processes are granted, are others after this transaction."""
    counters.add(tx, COUNTER)


def newest(tx: Tx) -> int:
    """How often that was."""
    return counters.value(tx, COUNTER)


def on_nodes(tx: Tx, names: Collection[str], only: Collection[str] | None = None) -> dict[str, dict[str, int]]:
    """Node -> the slices that it holds some of, of `only` these where they are named -> their generations."""
    found: dict[str, dict[str, int]] = {name: {} for name in names}
    if names:
        query = _ON_NODES if only is None else _ON_NODES.where(specs.c.slice.in_(only))
        for name, slice_, number in tx.execute(query, {"of": list(names)}):
            found[name][slice_] = number
    return found


def slices_there(tx: Tx) -> set[str]:
    """The names of all slices."""
    return set(tx.scalars(select(slices.c.name)))


class Row(NamedTuple):
    """That a key opens a slice, wherever that is."""

    slice: str
    key: str
    person: str  # whose it is


def of_slices(tx: Tx, names: Collection[str]) -> Iterator[Row]:
    """The keys of the members of these slices that are enabled."""
    for row in tx.execute(_KEYS, {"of": list(names)}):
        yield Row(*row)


class Let(NamedTuple):
    """That a guest's key opens slivers of a slice."""

    slice: str
    key: str
    person: str
    slivers: str  # JSON: names; none: all
    until: float  # Unix time; 0: for as long as the slice lives


def guests_of_slices(tx: Tx, names: Collection[str]) -> Iterator[Let]:
    """The keys of the guests of these slices that are enabled."""
    for row in tx.execute(_GUESTS, {"of": list(names)}):
        yield Let(*row)
