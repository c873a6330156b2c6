"""Initscripts: what new slivers run once."""

from __future__ import annotations

from sqlalchemy import delete as delete_rows
from sqlalchemy import insert, select, update

from vini.model import NotFound
from vini.rules.access import absent
from vini.rules.nouns import InitScript
from vini.store.database import Tx
from vini.store.tables import initscripts


def put(tx: Tx, name: str, script: str, enabled: bool = True) -> InitScript:
    """There is this one afterwards, whether or not there was one of its name."""
    values = {"script": script, "enabled": enabled}
    if not tx.execute(update(initscripts).where(initscripts.c.name == name).values(values)).rowcount:
        tx.execute(insert(initscripts).values(name=name, **values))
    return get(tx, name)


def get(tx: Tx, name: str) -> InitScript:
    """Raises NotFound."""
    row = tx.execute(select(initscripts).where(initscripts.c.name == name)).one_or_none()
    if row is None:
        raise NotFound(absent("initscript", name))
    return InitScript(**row._mapping)


def all(tx: Tx) -> list[InitScript]:
    """By name."""
    return [InitScript(**row._mapping) for row in tx.execute(select(initscripts).order_by(initscripts.c.name))]


def delete(tx: Tx, name: str) -> None:
    """Raises NotFound."""
    if not tx.execute(delete_rows(initscripts).where(initscripts.c.name == name)).rowcount:
        raise NotFound(absent("initscript", name))
