"""Counters that go on where two transactions count at once: whoever counts holds the row until he commits.

So the numbers become visible in their own order, which a sequence would not promise.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from vini.store.database import Tx
from vini.store.tables import counters

_VALUE = select(counters.c.value).where(counters.c.name == bindparam("of"))
_VALUES = select(counters)  # there are a dozen


def add(tx: Tx, name: str, by: int = 1) -> int:
    """What it is afterwards; from 0."""
    return int(tx.execute(_adding(tx.dialect.name), {"name": name, "value": by}).scalar_one())


def value(tx: Tx, name: str) -> int:
    """What it is."""
    return tx.scalar(_VALUE, {"of": name}) or 0


def values(tx: Tx, *names: str) -> tuple[int, ...]:
    """What each of several is, at one moment."""
    found: dict[str, int] = dict(tx.execute(_VALUES).all())
    return tuple(found.get(name, 0) for name in names)


@cache
def _adding(dialect: str) -> Any:
    made = (sqlite if dialect == "sqlite" else postgresql).insert(counters)
    more = {"value": counters.c.value + made.excluded.value}
    return made.on_conflict_do_update(index_elements=["name"], set_=more).returning(counters.c.value)
