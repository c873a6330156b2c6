"""The centrals that serve this database, and the nodes that are connected to each."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import bindparam, delete, insert, select, update

from vini.model import Value
from vini.store.database import Tx
from vini.store.tables import centrals

_OTHERS = select(centrals).where(centrals.c.id != bindparam("but")).order_by(centrals.c.id)


class CentralRow(Value, frozen=True):
    """One of them; or what is left of one that was killed: then `beat` stands still."""

    id: str
    url: str
    secret: str
    beat: int
    nodes: frozenset[str]


def announce(tx: Tx, row: CentralRow) -> None:
    """It lives, and reaches these nodes."""
    values = {"url": row.url, "secret": row.secret, "beat": row.beat, "nodes": " ".join(sorted(row.nodes))}
    if not tx.execute(update(centrals).where(centrals.c.id == row.id).values(values)).rowcount:
        tx.execute(insert(centrals).values({"id": row.id, **values}))


def withdraw(tx: Tx, ids: Collection[str]) -> None:
    """These serve no more."""
    tx.execute(delete(centrals).where(centrals.c.id.in_(ids)))


def others(tx: Tx, but: str) -> list[CentralRow]:
    """All but that one."""
    rows = tx.execute(_OTHERS, {"but": but})
    return [CentralRow(r.id, r.url, r.secret, r.beat, frozenset(r.nodes.split())) for r in rows]
