"""Who may come into which slices on which nodes: what follows from members, accounts and keys."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from sqlalchemy import and_, select

from vini.store import counters
from vini.store.database import Tx
from vini.store.tables import keys, nodes, persons, slice_guests, slice_members, slices, specs

COUNTER = "authorized"


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
        joined = specs.join(nodes).join(slices, slices.c.name == specs.c.slice)
        query = select(nodes.c.name, slices.c.name, slices.c.generation).select_from(joined)
        query = query if only is None else query.where(specs.c.slice.in_(only))
        for name, slice_, number in tx.execute(query.where(nodes.c.name.in_(names), specs.c.ends.is_(False))):
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
    who = slice_members.join(persons, and_(persons.c.id == slice_members.c.person_id, persons.c.enabled)).join(keys)
    found = (
        select(slices.c.name, keys.c.key, persons.c.email)
        .select_from(slices.join(who, slice_members.c.slice_id == slices.c.id))
        .where(slices.c.name.in_(names))
        .order_by(slices.c.name, keys.c.id)
    )
    for row in tx.execute(found):
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
    who = slice_guests.join(persons, and_(persons.c.id == slice_guests.c.person_id, persons.c.enabled)).join(keys)
    found = (
        select(slices.c.name, keys.c.key, persons.c.email, slice_guests.c.slivers, slice_guests.c.until)
        .select_from(slices.join(who, slice_guests.c.slice_id == slices.c.id))
        .where(slices.c.name.in_(names))
        .order_by(slices.c.name, keys.c.id)
    )
    for row in tx.execute(found):
        yield Let(*row)
