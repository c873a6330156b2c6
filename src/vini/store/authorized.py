"""Who may come into which slices on which nodes: what follows from members, accounts and keys."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from sqlalchemy import and_, select

from vini.store import counters
from vini.store.database import Tx
from vini.store.tables import keys, nodes, persons, slice_guests, slice_members, slices, specs

_COUNTER = "authorized"


def changed(tx: Tx) -> None:
    """Members, accounts or keys are other ones after this transaction."""
    counters.add(tx, _COUNTER)


def newest(tx: Tx) -> int:
    """How often that was."""
    return counters.value(tx, _COUNTER)


class Row(NamedTuple):
    """That a key opens a slice on a node."""

    node: str
    slice: str
    generation: int  # of the slice
    key: str | None  # None: nobody has one
    person: str  # whose it is


def of_nodes(tx: Tx, names: Collection[str]) -> Iterator[Row]:
    """Of each slice that these nodes hold some of: the keys of its members that are enabled; one row without a key
    where there is none."""
    who = slice_members.join(persons, and_(persons.c.id == slice_members.c.person_id, persons.c.enabled)).join(keys)
    joined = specs.join(nodes).join(slices, slices.c.name == specs.c.slice)
    found = (
        select(nodes.c.name, slices.c.name, slices.c.generation, keys.c.key, persons.c.email)
        .select_from(joined.outerjoin(who, slice_members.c.slice_id == slices.c.id))
        .where(nodes.c.name.in_(names), specs.c.ends.is_(False))
        .order_by(nodes.c.name, slices.c.name, keys.c.id)
    )
    for row in tx.execute(found):
        yield Row(*row)


class Let(NamedTuple):
    """That a guest's key opens slivers of a slice on a node."""

    node: str
    slice: str
    key: str
    person: str
    slivers: str  # JSON: names; none: all
    until: float  # Unix time; 0: for as long as the slice lives


def guests_of_nodes(tx: Tx, names: Collection[str]) -> Iterator[Let]:
    """Of each slice that these nodes hold some of: the keys of its guests that are enabled."""
    who = slice_guests.join(persons, and_(persons.c.id == slice_guests.c.person_id, persons.c.enabled)).join(keys)
    joined = specs.join(nodes).join(slices, slices.c.name == specs.c.slice)
    found = (
        select(nodes.c.name, slices.c.name, keys.c.key, persons.c.email, slice_guests.c.slivers, slice_guests.c.until)
        .select_from(joined.join(who, slice_guests.c.slice_id == slices.c.id))
        .where(nodes.c.name.in_(names), specs.c.ends.is_(False))
        .order_by(nodes.c.name, slices.c.name, keys.c.id)
    )
    for row in tx.execute(found):
        yield Let(*row)
