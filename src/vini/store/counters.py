"""Counters that go on where two transactions count at once: whoever counts holds the row until he commits.

So the numbers become visible in their own order, which a sequence would not promise.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from vini.store.database import Tx
from vini.store.tables import counters


def add(tx: Tx, name: str, by: int = 1) -> int:
    """What it is afterwards; from 0."""
    made = (sqlite if tx.dialect.name == "sqlite" else postgresql).insert(counters).values(name=name, value=by)
    counted = made.on_conflict_do_update(index_elements=["name"], set_={"value": counters.c.value + by})
    return int(tx.execute(counted.returning(counters.c.value)).scalar_one())


def value(tx: Tx, name: str) -> int:
    """What it is."""
    return tx.scalar(select(counters.c.value).where(counters.c.name == name)) or 0


def values(tx: Tx, *names: str) -> tuple[int, ...]:
    """What each of several is, at one moment."""
    found: dict[str, int] = dict(tx.execute(select(counters).where(counters.c.name.in_(names))).all())
    return tuple(found.get(name, 0) for name in names)
